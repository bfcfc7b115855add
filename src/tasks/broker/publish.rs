//! Messages on their way to a queue, and the bindings by which kombu knows queues.

use std::time::Duration;

use bytes::Bytes;

use super::{Broker, CALL};
use crate::redis::{Script, Value};
use crate::tasks::Error;

/// A message to be put on a queue.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// The queue.
    pub queue: &'a str,
    /// 0 to 9; 0 goes first.
    pub priority: u8,
    /// The message.
    pub raw: Bytes,
    /// How long the queue lives after its last message (`x-expires`); `None` is for ever.
    pub queue_expires: Option<Duration>,
}

/// KEYS: a list for each message. ARGV: for each its bytes, and the list's time to live in ms, or 0.
static PUBLISH: Script = Script::new(
    "for i = 1, #KEYS do
  redis.call('LPUSH', KEYS[i], ARGV[2 * i - 1])
  if ARGV[2 * i] ~= '0' then redis.call('PEXPIRE', KEYS[i], ARGV[2 * i]) end
end
return #KEYS",
);

impl Broker {
    /// Puts messages on their queues, in this order, all or none.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn publish(&self, messages: &[Publish<'_>]) -> Result<(), Error> {
        for message in messages {
            if message.queue_expires.is_none() {
                self.declare_once(message.queue).await?;
            }
        }
        if let [message] = messages
            && message.queue_expires.is_none()
        {
            let list = self.list_for(message.queue, message.priority);
            let arguments = vec![Value::from(list), Value::Bytes(message.raw.clone())];
            self.client().command("LPUSH", arguments, CALL).await?;
            return Ok(());
        }
        if messages.is_empty() {
            return Ok(());
        }
        let mut keys = Vec::with_capacity(messages.len());
        let mut arguments = Vec::with_capacity(2 * messages.len());
        for message in messages {
            keys.push(Value::from(self.list_for(message.queue, message.priority)));
            arguments.push(Value::Bytes(message.raw.clone()));
            arguments.push(Value::from(message.queue_expires.map_or(0, |expires| expires.as_millis().max(1) as i64)));
        }
        self.client().eval(&PUBLISH, keys, arguments, CALL).await?;
        Ok(())
    }

    /// Writes a queue's bindings if this process has not done so: before it is first sent to, as kombu does it.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn declare_once(&self, queue: &str) -> Result<(), Error> {
        if self.is_new(queue)
            && let Err(error) = self.declare(queue).await
        {
            self.forget_declared(queue);
            return Err(error);
        }
        Ok(())
    }

    /// Writes a queue's bindings: its own direct exchange, in both sets, of which the second keeps kombu 5.7 from
    /// sweeping the first.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn declare(&self, queue: &str) -> Result<(), Error> {
        let sep = &self.transport().sep;
        let member = Value::from(format!("{queue}{sep}{sep}{queue}"));
        let set = |name: &str| ("SADD", vec![Value::from(self.key(&format!("_kombu.{name}.{queue}"))), member.clone()]);
        for answer in self.client().batch(vec![set("binding"), set("binding_permanent")], CALL).await {
            answer?;
        }
        Ok(())
    }
}
