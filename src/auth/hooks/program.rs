//! A hook that is a program behind HTTP.
//!
//! A request that nobody has seen is sent again, as is one that the program puts off with 429 or 503 and Retry-After; all
//! of them have one `webhook-id` and together one deadline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;
use uuid::Uuid;

use super::signature::{Key, sign};
use super::{Error, LARGEST};
use crate::http::{Answer, Destination, Message, Outbound, OutboundError};

/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;
/// The pause after a request that nobody has seen.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks the program; `None` is an answer without content.
pub(super) async fn call(
    outbound: &Outbound,
    to: &Destination,
    keys: &[Key],
    event: String,
    timeout: Duration,
) -> Result<Option<Vec<u8>>, Error> {
    let deadline = Instant::now() + timeout;
    let id = Uuid::new_v4().to_string();
    let mut attempt = 1;
    loop {
        let message = message(keys, &id, &event);
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = match outbound.send(to, message, left, LARGEST).await {
            Ok(answer) => match pause(&answer).filter(|_| attempt < ATTEMPTS) {
                Some(pause) => pause,
                None => return read(&answer),
            },
            Err(error) if error.is_unsent() && attempt < ATTEMPTS => PAUSE,
            Err(error) => {
                return Err(match error {
                    OutboundError::Timeout { .. } => Error::Timeout(timeout),
                    OutboundError::TooLarge(..) => Error::TooLarge,
                    OutboundError::Unreachable(..) => Error::Unreachable(error),
                    OutboundError::Broken(..) => Error::Broken(error),
                });
            }
        };
        if Instant::now() + pause >= deadline {
            tokio::time::sleep_until(deadline).await;
            return Err(Error::Timeout(timeout));
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

fn message(keys: &[Key], id: &str, event: &str) -> Message {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    for (name, value) in
        [("webhook-id", id.to_owned()), ("webhook-signature", sign(keys, id, timestamp, event.as_bytes()))]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Message { method: Method::POST, headers, body: Bytes::copy_from_slice(event.as_bytes()) }
}

/// For how long the program puts us off.
fn pause(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get(RETRY_AFTER)?.to_str().ok()?;
    // A date is far away, for a request that waits.
    let pause = seconds.trim().parse().map_or(Duration::MAX / 4, Duration::from_secs);
    matches!(answer.status.as_u16(), 429 | 503).then_some(pause.min(Duration::from_hours(24)))
}

fn read(answer: &Answer) -> Result<Option<Vec<u8>>, Error> {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match answer.status.as_u16() {
        204 => Ok(None),
        200 | 202 => {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if kind.eq_ignore_ascii_case("application/json") {
                Ok(Some(answer.body.to_vec()))
            } else {
                Err(Error::ContentType)
            }
        }
        status => Err(Error::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::auth::hooks::signature::keys;
    use crate::secret::Secret;

    const JSON: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: 2\r\n\r\n{}";
    const BUSY: &str = "HTTP/1.1 503 X\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";

    /// Calls a program that gives these answers in turn; what it was asked comes with the result.
    async fn ask(answers: &[&'static str], timeout: Duration) -> (Result<Option<Vec<u8>>, Error>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = Destination::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let answers = answers.to_vec();
        let (sent, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let program: JoinHandle<()> = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                while !request.ends_with(r#"{"a":"ü"}"#) {
                    let mut buffer = vec![0; 4_096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                }
                let _ = sent.send(request);
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let keys = keys(&Secret::new("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let result = call(&Outbound::new().unwrap(), &to, &keys, r#"{"a":"ü"}"#.into(), timeout).await;
        program.abort();
        let mut all = Vec::new();
        while let Ok(request) = asked.try_recv() {
            all.push(request);
        }
        (result, all)
    }

    fn header<'a>(request: &'a str, name: &str) -> &'a str {
        request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_signed_and_sent_again_when_it_is_put_off() {
        let (answer, asked) = ask(&[BUSY, BUSY, JSON], Duration::from_secs(5)).await;
        assert_eq!(answer.unwrap().as_deref(), Some(b"{}".as_slice()));
        assert_eq!(asked.len(), 3);
        assert!(asked[0].starts_with("POST /hook HTTP/1.1\r\n"));
        assert_eq!(header(&asked[0], "webhook-id"), header(&asked[2], "webhook-id"));
        let timestamp = header(&asked[0], "webhook-timestamp").parse().unwrap();
        let keys = keys(&Secret::new("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let right = sign(&keys, header(&asked[0], "webhook-id"), timestamp, r#"{"a":"ü"}"#.as_bytes());
        assert_eq!(header(&asked[0], "webhook-signature"), right);
        let (answer, asked) = ask(&[BUSY, BUSY, BUSY, JSON], Duration::from_secs(5)).await;
        assert!(matches!(answer, Err(Error::Status(503))) && asked.len() == 3, "{answer:?}");
    }

    #[tokio::test]
    async fn only_json_is_an_answer() {
        let second = Duration::from_secs(5);
        assert_eq!(ask(&["HTTP/1.1 204 X\r\n\r\n"], second).await.0.unwrap(), None);
        let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}";
        assert!(matches!(ask(&[html], second).await.0, Err(Error::ContentType)));
        let redirect = "HTTP/1.1 307 X\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n";
        let (answer, asked) = ask(&[redirect, JSON], second).await;
        assert!(matches!(answer, Err(Error::Status(307))) && asked.len() == 1, "{answer:?}");
        let long = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 300000\r\n\r\n";
        assert!(matches!(ask(&[long], second).await.0, Err(Error::TooLarge)));
    }

    #[tokio::test]
    async fn a_late_answer_is_none() {
        let short = Duration::from_millis(100);
        let (answer, asked) = ask(&["", JSON], short).await;
        assert!(matches!(answer, Err(Error::Timeout(_))) && asked.len() == 1, "{answer:?}");
        let later = "HTTP/1.1 429 X\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(ask(&[later, JSON], short).await.0, Err(Error::Timeout(_))));
        let broken = ask(&["nonsense\r\n\r\n", JSON], Duration::from_secs(5)).await;
        assert!(matches!(broken.0, Err(Error::Broken(_))) && broken.1.len() == 1, "{broken:?}");
        let nobody = Destination::parse("http://127.0.0.1:1/").unwrap();
        let refused = call(&Outbound::new().unwrap(), &nobody, &[], "{}".into(), Duration::from_secs(5)).await;
        assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
    }
}
