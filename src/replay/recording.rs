//! A recording as it is answered from: an index of its exchanges, which does not change any more.

use std::collections::HashMap;
use std::sync::Arc;

use super::bodies::Bodies;
use super::key::key;
use super::settings::Settings;
use crate::capture::exchange::Exchange;

/// Exchanges to answer from, shared by a server's connections.
#[derive(Debug)]
pub struct Recording {
    pub(super) settings: Settings,
    pub(super) bodies: Box<dyn Bodies>,
    pub(super) questions: HashMap<Vec<u8>, Vec<usize>>,
}

impl Recording {
    /// Of exchanges in the order of their requests, which are kept in memory.
    pub fn new(exchanges: impl IntoIterator<Item = Exchange>, settings: Settings) -> Self {
        let exchanges = exchanges.into_iter().map(Arc::new).collect::<Vec<_>>();
        let indexed = exchanges.clone();
        Self::index(indexed, Box::new(exchanges), settings)
    }

    /// Of exchanges in the order of their requests, whose bodies are asked for again when they are needed.
    pub fn index(
        exchanges: impl IntoIterator<Item = Arc<Exchange>>,
        bodies: Box<dyn Bodies>,
        settings: Settings,
    ) -> Self {
        let mut questions = HashMap::<_, Vec<usize>>::new();
        for (index, exchange) in exchanges.into_iter().enumerate() {
            questions.entry(key(&exchange.request)).or_default().push(index);
        }
        Self { settings, bodies, questions }
    }

    /// How it is answered from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
