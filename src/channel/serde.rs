//! How a `Sender` travels: as the id of its channel. Serialised only while a message is written, which
//! [`attachments`] knows, and deserialised only in a worker's argument.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::{self, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::registry::ChannelId;
use crate::channel::sender::{LocalSender, Sender, SenderKind};
use crate::channel::socket;
use crate::shared::attachments;

/// The number of encoded parts: two numbers of the channel's id.
const PARTS: usize = 2;

impl<T: Send + 'static> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let channel_id = self.travel().map_err(ser::Error::custom)?;
        let mut parts = serializer.serialize_tuple(PARTS)?;
        parts.serialize_element(&channel_id.process)?;
        parts.serialize_element(&channel_id.number)?;
        parts.end()
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Has the current message hold the channel open; returns the channel's id.
    ///
    /// # Errors
    /// The reason why this cannot travel.
    fn travel(&self) -> Result<ChannelId, String> {
        let SenderKind::Local(local) = &self.0 else {
            let words = "a Sender that came to a worker process cannot travel on, nor be a result";
            return Err(words.to_owned());
        };
        if !attachments::is_writing() {
            let words = "a Sender is serialised only as an argument of a process pool's task";
            return Err(words.to_owned());
        }
        let LocalSender(channel) = &**local;
        attachments::hold_open(channel.hold()?);
        Ok(channel.id())
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(PARTS, SenderParts(PhantomData))
    }
}

/// Makes a `Sender` of its encoded parts.
struct SenderParts<T>(PhantomData<T>);

impl<'de, T> Visitor<'de> for SenderParts<T> {
    type Value = Sender<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a channel")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Sender<T>, A::Error> {
        let channel_id = ChannelId {
            process: next(&mut parts)?,
            number: next(&mut parts)?,
        };
        received(channel_id).map_err(|words| {
            attachments::blame(&words);
            de::Error::custom(words)
        })
    }
}

/// The sender that came as this id.
fn received<T>(channel_id: ChannelId) -> Result<Sender<T>, String> {
    if !attachments::is_fetching() {
        return Err("a Sender is received only by a task in a worker process".to_owned());
    }
    socket::fetch(channel_id).map(|socket| Sender(SenderKind::Remote(socket)))
}

fn next<'de, A: SeqAccess<'de>>(parts: &mut A) -> Result<u64, A::Error> {
    let missing = || de::Error::custom("a part of a channel's id is missing");
    parts.next_element()?.ok_or_else(missing)
}
