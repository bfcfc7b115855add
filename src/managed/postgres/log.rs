//! What PostgreSQL writes, into Beacon's log.
//!
//! The errors of clients' statements stay out: they are told to whoever sent the statement, and they quote values, which
//! may be anybody's address or token. Errors of the server's own (its disk, its memory, its state) come in.

/// What is to become of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Quiet,
    Warning,
    Error,
}

/// Logs one line; gives it back if it may say why the server ends.
pub(super) fn take(line: &str) -> Option<String> {
    let (grade, text) = read(line);
    match grade {
        Grade::Quiet => tracing::debug!(service = "PostgreSQL", "{text}"),
        Grade::Warning => tracing::warn!(service = "PostgreSQL", "{text}"),
        Grade::Error => tracing::error!(service = "PostgreSQL", "{text}"),
    }
    // A line without the prefix was written before the settings were understood.
    (grade != Grade::Quiet || !line.contains('|')).then(|| text.to_owned())
}

/// From "client backend|42P01|ERROR:  relation ...", the form of log_line_prefix=%b|%e|.
fn read(line: &str) -> (Grade, &str) {
    let mut parts = line.splitn(3, '|');
    let (Some(backend), Some(state), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        // Before the prefix is known: a wrong setting or a wrong folder. Or the rest of a message.
        let grade = if line.contains("FATAL:") { Grade::Error } else { Grade::Quiet };
        return (grade, line.trim_start());
    };
    let Some((severity, text)) = rest.split_once(':').map(|(severity, text)| (severity, text.trim_start())) else {
        return (Grade::Quiet, rest);
    };
    let of_client = matches!(backend, "client backend" | "parallel worker" | "walsender" | "");
    // Resources, the system, corrupted data and PostgreSQL's own mistakes; everything else is between it and its client.
    let own = ["53", "58", "F0", "XX"].iter().any(|class| state.starts_with(class));
    let grade = match severity {
        "PANIC" => Grade::Error,
        "FATAL" | "ERROR" if own || !of_client => Grade::Error,
        "WARNING" if own || !of_client => Grade::Warning,
        "LOG" if text.contains("not properly shut down") || text.contains("was terminated by signal") => Grade::Warning,
        // What is wrong with its settings.
        "LOG" if state != "00000" && !of_client => Grade::Warning,
        _ => Grade::Quiet,
    };
    // A stop ends the workers by a FATAL each ("terminating ... due to administrator command").
    if matches!(state, "57P01" | "57P02" | "57P03") && grade == Grade::Error {
        return (Grade::Quiet, text);
    }
    (grade, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_own_troubles_are_told_and_the_clients_are_not() {
        for (line, grade, text) in [
            (
                "client backend|42P01|ERROR:  relation \"x\" does not exist",
                Grade::Quiet,
                "relation \"x\" does not exist",
            ),
            (
                "client backend|28P01|FATAL:  password authentication failed",
                Grade::Quiet,
                "password authentication failed",
            ),
            (
                "client backend|53100|ERROR:  could not extend file: No space left",
                Grade::Error,
                "could not extend file: No space left",
            ),
            ("autovacuum worker|XX001|ERROR:  invalid page", Grade::Error, "invalid page"),
            ("autovacuum worker|22012|ERROR:  division by zero", Grade::Error, "division by zero"),
            ("checkpointer|58030|PANIC:  could not fsync", Grade::Error, "could not fsync"),
            ("postmaster|00000|LOG:  database system is ready", Grade::Quiet, "database system is ready"),
            (
                "startup|00000|LOG:  database system was not properly shut down; automatic recovery in progress",
                Grade::Warning,
                "database system was not properly shut down; automatic recovery in progress",
            ),
            ("postmaster|22023|LOG:  invalid value for x", Grade::Warning, "invalid value for x"),
            ("logical replication launcher|57P01|FATAL:  terminating", Grade::Quiet, "terminating"),
            ("\tcontinued", Grade::Quiet, "continued"),
            ("2026 [1] FATAL:  could not load x", Grade::Error, "2026 [1] FATAL:  could not load x"),
        ] {
            assert_eq!(read(line), (grade, text), "{line}");
        }
    }
}
