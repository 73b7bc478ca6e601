//! Stored records. Each state of a record is a type.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::time::UnixTime;

/// One kind of stored record: an enum over its states.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Name of the kind. It is part of the key and the seal: no record opens as another kind.
    const KIND: &'static str;
    /// Version of the stored format. A record with a newer one is rejected and left unchanged.
    const VERSION: u32 = 1;
    /// Whether it travels inside its handle in stateless mode. If not, only one process knows it.
    const CLIENT_SIDE: bool = false;

    /// When the record expires. The store must keep it until then, and may sweep it afterwards.
    fn expires_at(&self) -> UnixTime;
}

/// One state of a record. Only a transition from another state, or `new`, creates it.
pub trait State: Sized + Into<Self::Record> {
    /// The record that has this state.
    type Record: Record;

    /// Returns the record as this state, if it is in it. Transitions check the state only here.
    fn from_record(record: Self::Record) -> Option<Self>;
}

/// Implements `From<State> for Record` and `State` for each state of a record's enum.
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
