//! What lies in a store: a record, whose type is its state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::time::UnixTime;

/// Everything of one kind that is stored: an enum over its states.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the kind, part of its key and of its seal: a record of one kind opens nowhere else.
    const KIND: &'static str;
    /// The version of the stored form. A newer one than this is refused, and left as it is.
    const VERSION: u32 = 1;
    /// Where nothing is kept, it travels with whoever holds its handle. What does not travel is then known to one process only.
    const CLIENT_SIDE: bool = false;

    /// Until when a store must keep it; after that it may be swept.
    fn expires_at(&self) -> UnixTime;
}

/// One state of a record: made only by a move from another state, or by `new` at the start.
pub trait State: Sized + Into<Self::Record> {
    /// The record that this is a state of.
    type Record: Record;

    /// The record as this state, if it is in it. The only run-time "is this the right moment?" in the house.
    fn from_record(record: Self::Record) -> Option<Self>;
}

/// Writes, for a record's enum, `From<State> for Record` and `State for` each of its states.
macro_rules! states {
    ($record:ident: $($state:ident),+ $(,)?) => {
        $(
            impl From<$state> for $record {
                fn from(state: $state) -> Self {
                    Self::$state(state)
                }
            }

            impl $crate::base::record::State for $state {
                type Record = $record;

                #[allow(irrefutable_let_patterns, clippy::allow_attributes, reason = "a record may have one state only")]
                fn from_record(record: $record) -> Option<Self> {
                    if let $record::$state(state) = record { Some(state) } else { None }
                }
            }
        )+
    };
}
pub(crate) use states;
