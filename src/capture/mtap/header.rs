//! A capture's first bytes: which run it is of, and the settings that its events depend on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CaptureError, MAGIC, VERSION};
use crate::event::{Address, Timestamp, TopologyType, micros};
use crate::redact::fields::Rules;
use crate::session::Limits;
use crate::topology::{self, ClientsSettings};

/// The fixed part: magic, version, length, checksum.
pub(super) const FIXED_LEN: usize = 20;

/// No document is longer; one that says so is damaged.
const DOCUMENT_LEN_MAX: u32 = 1 << 20;

/// What a capture says of its run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// The version of the program.
    pub version: String,
    /// What tells this run from others.
    pub run: String,
    /// Which file of the run this is, from 0.
    pub part: u64,
    /// Where it listened.
    pub listen: String,
    /// What it forwarded to.
    pub upstream: String,
    /// When the run began: nanoseconds on its monotonic clock.
    pub started_nanos: u64,
    /// The same moment in microseconds since 1970.
    pub started_micros: i64,
    /// The longest message that was read.
    pub max_message_bytes: usize,
    /// The longest message that was inflated.
    pub inflate_max_bytes: usize,
    /// A silent connection was an idle one of a pool after so long.
    pub idle_after_micros: u64,
    /// Whose topologies are derived.
    pub topology: TopologyHeader,
    /// Whether values of its documents were masked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Of which fields, where it was not of all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<Rules>,
}

/// Whose topologies are derived, what they begin with, and when they end: see [`ClientsSettings`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologyHeader {
    /// One for each client; otherwise one for all together.
    pub per_client: bool,
    /// A client that has had no connection for so long is gone.
    pub closed_after_micros: u64,
    /// The same for one that has said `endSessions`.
    pub ended_after_micros: u64,
    /// The hosts of the URI for applications.
    pub seeds: Vec<String>,
    /// The type that a topology begins with.
    pub initial: String,
    /// The replica set's name, if it is known.
    pub set_name: Option<String>,
}

impl Header {
    /// When the run began.
    pub fn started(&self) -> Timestamp {
        Timestamp { monotonic_nanos: self.started_nanos, unix_micros: self.started_micros }
    }

    /// The limits that its sessions read with.
    pub fn limits(&self) -> Limits {
        let (max_message_bytes, inflate_max_bytes) = (self.max_message_bytes, self.inflate_max_bytes);
        Limits { max_message_bytes, inflate_max_bytes, max_document_bytes: 0 }
    }

    /// The bytes that a file begins with.
    pub fn to_bytes(&self) -> Vec<u8> {
        let document = serde_json::to_vec(self).unwrap_or_default();
        let mut checked = VERSION.to_le_bytes().to_vec();
        checked.extend_from_slice(&u32::try_from(document.len()).unwrap_or_default().to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&checked), &document);
        [&MAGIC[..], &checked, &checksum.to_le_bytes(), &document].concat()
    }

    /// The length of the document behind the fixed part, which `fixed` is.
    pub(super) fn document_len(fixed: &[u8; FIXED_LEN]) -> Result<usize, CaptureError> {
        if !fixed.starts_with(MAGIC) {
            return Err(CaptureError::NotACapture);
        }
        match number(fixed, 12) {
            len @ ..=DOCUMENT_LEN_MAX => Ok(len as usize),
            len => Err(damaged(format!("a header of {len} bytes"))),
        }
    }

    pub(super) fn parse(fixed: &[u8; FIXED_LEN], document: &[u8]) -> Result<Self, CaptureError> {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&fixed[8..16]), document);
        if checksum != number(fixed, 16) {
            return Err(damaged("the header's checksum is another".to_owned()));
        }
        match number(fixed, 8) {
            VERSION => {}
            version => return Err(CaptureError::Newer { version }),
        }
        serde_json::from_slice(document).map_err(|error| damaged(format!("the header cannot be read: {error}")))
    }
}

fn number(fixed: &[u8; FIXED_LEN], at: usize) -> u32 {
    u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
}

fn damaged(what: String) -> CaptureError {
    CaptureError::Damaged { offset: 0, what }
}

impl From<&ClientsSettings> for TopologyHeader {
    fn from(settings: &ClientsSettings) -> Self {
        Self {
            per_client: settings.per_client,
            closed_after_micros: micros(settings.closed_after),
            ended_after_micros: micros(settings.ended_after),
            seeds: settings.seeds.seeds.iter().map(ToString::to_string).collect(),
            initial: settings.seeds.initial.as_str().to_owned(),
            set_name: settings.seeds.set_name.clone(),
        }
    }
}

impl From<&TopologyHeader> for ClientsSettings {
    fn from(header: &TopologyHeader) -> Self {
        let seeds = topology::Settings {
            seeds: header.seeds.iter().map(|seed| Address::parse(seed)).collect(),
            initial: TopologyType::from_name(&header.initial).unwrap_or_default(),
            set_name: header.set_name.clone(),
            ..topology::Settings::default()
        };
        Self {
            per_client: header.per_client,
            closed_after: Duration::from_micros(header.closed_after_micros),
            ended_after: Duration::from_micros(header.ended_after_micros),
            seeds,
        }
    }
}
