//! Opening one connection: the address, the protection, and a password that may change.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::{Config, Error, Pool, TlsMode, libpq, login, tls};
use crate::secret::Secret;

/// How long a printed password is used before the command is asked again. RDS's tokens live 15 minutes.
const PASSWORD_AGE: Duration = Duration::from_mins(10);

/// The longest that the command may take, and the most that it may print.
const COMMAND_DEADLINE: Duration = Duration::from_secs(15);
const COMMAND_OUTPUT: u64 = 16 * 1024;

/// The server looks whether we are still there while a statement runs, so that none goes on after the end of Beacon or
/// of its machine, or although a function catches its cancellation. Before PostgreSQL 14, and on systems that cannot tell,
/// there is no such setting.
const NOTICE_OUR_END: &str = "do $$ begin perform set_config('client_connection_check_interval', '5s', false); \
                              exception when others then null; end $$";

/// Opens connections to one address as one login.
pub(super) struct Connector {
    address: Address,
    tls: Option<MakeRustlsConnect>,
    login: Login,
    /// Run on every new connection, such as timeouts.
    prelude: String,
    /// For all of opening a connection.
    deadline: Duration,
}

/// Where the login's name and password come from.
pub(super) enum Login {
    /// The URL.
    Url,
    /// The name is the URL's; a program prints the password.
    Command { command: Vec<String>, last: Mutex<Option<(Secret, Instant)>> },
    /// Made by Beacon, and kept in beacon.settings, which the owner reads.
    Made { owner: Pool, last: Mutex<Option<login::Made>> },
}

impl Connector {
    pub(super) fn new(address: Address, login: Login, config: &Config) -> Result<Self, Error> {
        let tls = tls::connector(&address)?;
        let mut prelude = String::new();
        if config.prepared_statements {
            // Behind a pooler a session's settings would reach somebody else; `transact` sets them each time instead.
            for (name, value) in timeouts(config) {
                let _ = write!(prelude, "set {name} = {value};");
            }
            prelude.push_str(NOTICE_OUR_END);
        }
        let deadline = config.connect_timeout * 2;
        Ok(Self { address, tls, login, prelude, deadline })
    }

    /// Which database this leads to, for messages.
    pub(super) fn place(&self) -> &str {
        &self.address.place
    }

    /// How it is protected; never `Auto`.
    pub(super) fn protection(&self) -> TlsMode {
        self.address.mode
    }

    /// Whether it leads to this host alone.
    pub(super) fn is_local(&self) -> bool {
        self.address.is_local()
    }

    /// Opens a connection whose driver runs in the background.
    pub(super) async fn connect(&self) -> Result<(Client, AbortHandle), Error> {
        let (client, mut messages) = self.open().await?;
        let driver = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                match message {
                    Ok(message) => log_notice(&message),
                    // Whoever waits for an answer has the error; a connection that idled is noticed when it is taken.
                    Err(error) => return tracing::debug!(%error, "a connection to the database ended"),
                }
            }
        });
        if !self.prelude.is_empty() {
            client.batch_execute(&self.prelude).await?;
        }
        Ok((client, driver.abort_handle()))
    }

    /// Opens a connection; it works while the messages are polled.
    pub(super) async fn open(&self) -> Result<(Client, Messages), Error> {
        match self.attempt(false).await {
            Err(error) if self.may_change() && error.database().is_some_and(refused) => self.attempt(true).await,
            result => result,
        }
    }

    /// Opens a connection of its own to another database of the same server, with no settings of ours.
    pub(super) async fn elsewhere(&self, database: &str) -> Result<Client, Error> {
        let mut config = self.config(false).await?;
        config.dbname(database);
        let (client, mut messages) = self.reach(&config).await?;
        tokio::spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        Ok(client)
    }

    /// What PostgreSQL's own programs (libpq) need to come to this database as this login: variables of their
    /// environment, which nobody but root and we can read.
    pub(super) async fn libpq(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let config = self.config(false).await?;
        libpq::variables(&config, &self.address)
    }

    async fn attempt(&self, fresh: bool) -> Result<(Client, Messages), Error> {
        let config = self.config(fresh).await?;
        self.reach(&config).await
    }

    async fn reach(&self, config: &tokio_postgres::Config) -> Result<(Client, Messages), Error> {
        let opened = async {
            match &self.tls {
                None => connect(config, NoTls).await,
                Some(tls) => connect(config, tls.clone()).await,
            }
        };
        // The crate's own deadline is for one address and does not hold for the handshakes.
        let limit = self.deadline;
        match tokio::time::timeout(limit, opened).await {
            Ok(result) => result.map_err(|source| Error::Unreachable { place: self.address.place.clone(), source }),
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// Asks the server to stop what `client` waits for.
    pub(super) async fn cancel(&self, token: tokio_postgres::CancelToken) {
        let asked = async {
            match &self.tls {
                None => token.cancel_query(NoTls).await,
                Some(tls) => token.cancel_query(tls.clone()).await,
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(self.deadline, asked).await {
            tracing::debug!(%error, "a statement could not be cancelled");
        }
    }

    fn may_change(&self) -> bool {
        !matches!(self.login, Login::Url)
    }

    /// The address with the login's name and password; `fresh` when the last ones were refused.
    async fn config(&self, fresh: bool) -> Result<tokio_postgres::Config, Error> {
        let mut config = self.address.config.clone();
        config.ssl_mode(match self.address.mode {
            TlsMode::Disable | TlsMode::Auto => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        });
        match &self.login {
            Login::Url => {}
            Login::Command { command, last } => {
                let known = lock(last).clone().filter(|(_, at)| !fresh && at.elapsed() < PASSWORD_AGE);
                let password = if let Some((password, _)) = known {
                    password
                } else {
                    let password = print(command).await?;
                    *lock(last) = Some((password.clone(), Instant::now()));
                    password
                };
                config.password(password.expose());
            }
            Login::Made { owner, last } => {
                let known = lock(last).clone().filter(|_| !fresh);
                let made = if let Some(made) = known {
                    made
                } else {
                    let made = login::read(owner).await?;
                    *lock(last) = Some(made.clone());
                    made
                };
                if let Some((name, password)) = made.credentials() {
                    config.user(name).password(password.expose());
                }
            }
        }
        Ok(config)
    }
}

/// What the server says unasked, and the end of the connection.
pub(super) type Messages =
    Pin<Box<dyn futures_util::Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Send>>;

async fn connect<T>(config: &tokio_postgres::Config, tls: T) -> Result<(Client, Messages), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = config.connect(tls).await?;
    Ok((client, Box::pin(futures_util::stream::poll_fn(move |cx| connection.poll_message(cx)))))
}

/// Whether a login failed because of who asked, and not for another reason.
fn refused(error: &DbError) -> bool {
    [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(error.code())
}

fn log_notice(message: &AsyncMessage) {
    if let AsyncMessage::Notice(notice) = message {
        if notice.severity() == "WARNING" {
            tracing::warn!(code = notice.code().code(), "the database warns: {}", notice.message());
        } else {
            tracing::debug!(code = notice.code().code(), "the database says: {}", notice.message());
        }
    }
}

/// Settings that bound every statement, in milliseconds.
pub(super) fn timeouts(config: &Config) -> [(&'static str, String); 2] {
    [
        ("statement_timeout", config.statement_timeout.as_millis().to_string()),
        ("lock_timeout", config.lock_timeout.as_millis().to_string()),
    ]
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the command and takes the first line that it prints.
async fn print(command: &[String]) -> Result<Secret, Error> {
    let failed = |why: String| Error::Password(why);
    let (program, arguments) = command.split_first().ok_or_else(|| failed("it is empty".into()))?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{program} cannot be run: {error}")))?;
    let read = async {
        let mut text = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(COMMAND_OUTPUT)
                .read_to_string(&mut text)
                .await
                .map_err(|error| failed(format!("what {program} printed cannot be read: {error}")))?;
        }
        let status = child.wait().await.map_err(|error| failed(format!("{program} is lost: {error}")))?;
        if !status.success() {
            return Err(failed(format!("{program} ended with {status}")));
        }
        let password = text.lines().next().unwrap_or_default().trim();
        if password.is_empty() {
            return Err(failed(format!("{program} printed nothing")));
        }
        Ok(Secret::new(password))
    };
    tokio::time::timeout(COMMAND_DEADLINE, read)
        .await
        .unwrap_or_else(|_| Err(failed(format!("{program} took longer than {} s", COMMAND_DEADLINE.as_secs()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_s_first_line_is_the_password_and_its_failure_is_told() {
        let run = |script: &str| {
            let command = ["sh", "-c", script].map(str::to_owned);
            async move { print(&command).await }
        };
        assert_eq!(run("echo token; echo more").await.unwrap().expose(), "token");
        assert!(run("exit 3").await.unwrap_err().to_string().contains("exit status: 3"));
        assert!(run("true").await.unwrap_err().to_string().contains("printed nothing"));
        let missing = print(&["/nonexistent/program".to_owned()]).await.unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/program"), "{missing}");
    }
}
