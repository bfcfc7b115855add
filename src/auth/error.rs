//! What can go wrong when the wall is built. A request never meets one of these: it gets a response.

/// Why the wall cannot stand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A hash in `[wall.users]` cannot be used.
    #[error("wall.users.{user} has no usable password hash: {problem}. Make one with `beacon wall hash`")]
    Hash {
        /// Whose hash it is.
        user: String,
        /// What is wrong with it; never a part of the hash.
        problem: String,
    },
    /// The realm cannot stand in a header.
    #[error("wall.realm holds a control character. Write it on one line of plain text")]
    Realm,
}
