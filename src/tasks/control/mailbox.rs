//! What remote control keeps in Redis: who listens where, and lists of answers.
//!
//! Names and members are kombu's. An answer's list belongs to a client that may have gone: it always expires.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::Binding;
use crate::redis::{Error, Script, Value, integer, list, text};
use crate::tasks::broker::Broker;
use crate::tasks::events::channel;
use crate::tasks::wire::Notice;

/// How long Redis may take.
const WITHIN: Duration = Duration::from_secs(3);
/// An answer that nobody fetches lives so long, in milliseconds.
const UNREAD: i64 = 60_000;
/// A binding is kept so long after it was last written, in milliseconds, by kombu's sweeps.
const BOUND: i64 = 3_600_000;
/// How many members of a set are looked at in one go, and in how many goes.
const SCAN: (i64, usize) = (1_000, 100);

/// An answer for a client that is bound under its usual name: put on its list. 0 if it is not.
static ANSWER: Script = Script::new(
    "if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1",
);

/// A member of a set of bindings, and the time at which kombu may sweep the set. The set itself has no time to live, so
/// that no policy of eviction takes it.
static BIND: Script = Script::new(
    "redis.call('SADD', KEYS[1], ARGV[1])
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('ZADD', KEYS[2], 'GT', ms + tonumber(ARGV[3]), ARGV[2])
return 1",
);

/// Remote control's part of the broker.
#[derive(Clone)]
pub(super) struct Mailbox(pub(super) Broker);

impl Mailbox {
    fn bindings(&self, exchange: &str) -> String {
        self.0.key(&format!("_kombu.binding.{exchange}"))
    }

    /// The exchange of requests.
    pub(super) fn exchange(&self) -> String {
        format!("{}.pidbox", self.0.transport().control_exchange)
    }

    /// The exchange of answers.
    pub(super) fn answers(&self) -> String {
        format!("reply.{}", self.exchange())
    }

    /// The channel of requests.
    pub(super) fn requests(&self) -> String {
        channel(&self.0, &self.exchange(), "")
    }

    /// A member of a set of bindings: without a pattern, as all have it but topics.
    fn member(&self, key: &str, queue: &str) -> String {
        let sep = &self.0.transport().sep;
        format!("{key}{sep}{sep}{queue}")
    }

    /// Makes known that this node listens; to be repeated now and then.
    pub(super) async fn bind_node(&self, node: &str) -> Result<(), Error> {
        let exchange = self.exchange();
        let member = self.member("", &format!("{node}.{exchange}"));
        self.bind_for_a_while(&exchange, member).await
    }

    /// The node no longer listens.
    pub(super) async fn unbind_node(&self, node: &str) -> Result<(), Error> {
        let exchange = self.exchange();
        let member = self.member("", &format!("{node}.{exchange}"));
        self.0.client().command("SREM", vec![self.bindings(&exchange).into(), member.into()], WITHIN).await.map(drop)
    }

    async fn bind_for_a_while(&self, exchange: &str, member: String) -> Result<(), Error> {
        let keys = vec![self.bindings(exchange).into(), self.0.key("_kombu.binding_deadlines").into()];
        let arguments = vec![member.into(), exchange.into(), BOUND.into()];
        self.0.client().eval(&BIND, keys, arguments, WITHIN).await.map(drop)
    }

    /// Makes a queue's binding known to producers.
    pub(super) async fn bind_queue(&self, binding: &Binding) -> Result<(), Error> {
        let member = binding.member(self.0.transport());
        let permanent = self.0.key(&format!("_kombu.binding_permanent.{}", binding.exchange));
        let commands = [self.bindings(&binding.exchange), permanent].map(|key| {
            let arguments: Vec<Value> = vec![key.into(), member.clone().into()];
            ("SADD", arguments)
        });
        self.0.client().batch(commands.into(), WITHIN).await.into_iter().try_for_each(|result| result.map(drop))
    }

    /// Gives an answer to whoever is bound under this key; nobody is no error.
    pub(super) async fn answer(&self, to: &To, headers: Map<String, Json>, body: &Json) -> Result<(), Error> {
        let body = body.to_string();
        let message = Notice { body: &body, headers, exchange: &to.exchange, routing_key: &to.key }.message();
        let message = Value::Bytes(message);
        let bindings = self.bindings(&to.exchange);
        let usual = format!("{}.{}", to.key, to.exchange);
        let keys = vec![Value::from(bindings.as_str()), self.0.key(&usual).into()];
        let arguments = vec![self.member(&to.key, &usual).into(), message.clone(), UNREAD.into()];
        if self.0.client().eval(&ANSWER, keys, arguments, WITHIN).await?.as_i64() == Some(1) {
            return Ok(());
        }
        for queue in self.bound(&bindings, &to.key).await? {
            let key = self.0.key(&queue);
            let push = ("LPUSH", vec![Value::from(key.as_str()), message.clone()]);
            let expire = ("PEXPIRE", vec![Value::from(key), UNREAD.into()]);
            self.0
                .client()
                .batch(vec![push, expire], WITHIN)
                .await
                .into_iter()
                .try_for_each(|result| result.map(drop))?;
        }
        Ok(())
    }

    /// The queues that are bound by a key.
    async fn bound(&self, bindings: &str, key: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut cursor = String::from("0");
        for _ in 0..SCAN.1 {
            let arguments = vec![Value::from(bindings), cursor.into(), "COUNT".into(), SCAN.0.into()];
            let mut answer = list(self.0.client().command("SSCAN", arguments, WITHIN).await?).into_iter();
            cursor = answer.next().and_then(text).unwrap_or_else(|| "0".to_owned());
            for member in answer.next().map(list).unwrap_or_default().into_iter().filter_map(text) {
                let mut parts = member.split(&self.0.transport().sep);
                if let (Some(of), Some(queue)) = (parts.next(), parts.nth(1))
                    && of == key
                    && !queue.is_empty()
                {
                    found.push(queue.to_owned());
                }
            }
            if cursor == "0" {
                break;
            }
        }
        Ok(found)
    }

    /// A list of answers of one's own, bound under this key.
    pub(super) async fn open(&self, key: &str) -> Result<(), Error> {
        let exchange = self.answers();
        let member = self.member(key, &format!("{key}.{exchange}"));
        self.bind_for_a_while(&exchange, member).await
    }

    /// Answers that have come on it, the first ones first.
    pub(super) async fn fetch(&self, key: &str) -> Result<Vec<bytes::Bytes>, Error> {
        let name = self.0.key(&format!("{key}.{}", self.answers()));
        let answer = self.0.client().command("RPOP", vec![name.into(), 100.into()], WITHIN).await?;
        Ok(list(answer).into_iter().filter_map(crate::redis::bytes).collect())
    }

    /// It is no longer read.
    pub(super) async fn close(&self, key: &str) {
        let exchange = self.answers();
        let queue = format!("{key}.{exchange}");
        let member: Value = self.member(key, &queue).into();
        let commands =
            vec![("SREM", vec![self.bindings(&exchange).into(), member]), ("DEL", vec![self.0.key(&queue).into()])];
        for error in self.0.client().batch(commands, WITHIN).await.into_iter().filter_map(Result::err) {
            // Both go by themselves later.
            tracing::debug!(%error, "a list of answers could not be removed");
        }
    }

    /// Publishes a request; gives to how many it went.
    pub(super) async fn request(&self, headers: Map<String, Json>, body: &Json) -> Result<i64, Error> {
        let (body, exchange) = (body.to_string(), self.exchange());
        let message = Notice { body: &body, headers, exchange: &exchange, routing_key: "" }.message();
        let arguments = vec![self.requests().into(), Value::Bytes(message)];
        Ok(integer(&self.0.client().command("PUBLISH", arguments, WITHIN).await?).unwrap_or_default())
    }
}

/// To whom an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct To {
    pub(super) exchange: String,
    pub(super) key: String,
}
