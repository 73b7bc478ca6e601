//! What instances that keep nothing else tell each other: who used something up first. Nothing is listened to.

use redis::{Cmd, Script, Value};

use crate::base::time::UnixTime;
use crate::store::error::StoreError;
use crate::store::redis::link::{Failed, Link};
use crate::store::redis::row;
use crate::store::redis::running::{Redis, unavailable};
use crate::store::spent::{Mark, Spent};

/// KEYS[1]; what is to lie there unless something does, and its life in ms. Answers what lies there then, so that it may be
/// asked twice.
const SPEND: &str = r"
local there = redis.call('GET', KEYS[1])
if there then return there end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return ARGV[1]
";

impl Redis {
    /// What lies under this mark.
    pub(in crate::store) async fn spent(&self, mark: &Mark) -> Result<Option<Spent>, StoreError> {
        let key = mark.key();
        self.on(async move |shelf| match shelf.link.read(&row::get(shelf.prefix(), &key)).await {
            Ok(Value::Nil) => Ok(None),
            Ok(found) => read(&found).map(Some),
            Err(why) => Err(unavailable(why)),
        })
        .await
    }

    /// What lies under this mark now: `spent`, or what lay there before.
    pub(in crate::store) async fn spend(&self, mark: &Mark, spent: Spent, until: UnixTime) -> Result<Spent, StoreError> {
        let key = mark.key();
        self.on(async move |shelf| {
            let life = row::life(until, shelf.clock.now());
            let there = put(&shelf.link, &row::name(shelf.prefix(), &key), &spent.bytes(), life).await;
            read(&there.map_err(unavailable)?)
        })
        .await
    }
}

async fn put(link: &Link, key: &str, value: &[u8], life: u64) -> Result<Value, Failed> {
    let call = |how: &str, script: &str| {
        let mut cmd: Cmd = redis::cmd(how);
        cmd.arg(script).arg(1).arg(key).arg(value).arg(life);
        cmd
    };
    match link.read(&call("EVALSHA", Script::new(SPEND).get_hash())).await {
        Err(Failed::Refused(word, _)) if word == "NOSCRIPT" => link.read(&call("EVAL", SPEND)).await,
        answer => answer,
    }
}

/// What is not of our making is not taken for "nothing".
fn read(found: &Value) -> Result<Spent, StoreError> {
    let spent = match found {
        Value::BulkString(bytes) => Spent::read(bytes),
        _ => None,
    };
    spent.ok_or_else(|| StoreError::Unavailable("Redis: another program wrote under our prefix".to_owned()))
}
