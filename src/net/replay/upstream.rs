//! The server that is asked what a recording does not hold.
//!
//! A proxy stands before it, which knows how to reach it, and, if its answers are to be recorded, captures them.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;

use crate::config::Endpoint;
use crate::net::client::{Client, ClientError, Credentials, Options};
use crate::replay::Request;
use crate::wire::OpMsg;

/// Where it is reached, and as whom.
#[derive(Clone, Debug)]
pub(in crate::net) struct Upstream {
    /// The proxy's listeners.
    pub(in crate::net) endpoints: Arc<[Endpoint]>,
    pub(in crate::net) credentials: Option<Credentials>,
}

/// A connection to it, made when it is needed.
#[derive(Debug)]
pub(in crate::net) struct Asking {
    upstream: Upstream,
    client: Option<Client>,
}

impl Upstream {
    pub(in crate::net) fn asking(&self) -> Asking {
        Asking { upstream: self.clone(), client: None }
    }

    /// A connection to the server that takes writes; if none says that it does, to any.
    async fn connect(&self) -> Result<Client, ClientError> {
        let options = Options { credentials: self.credentials.clone(), ..Options::default() };
        let mut last = Err(ClientError::Closed);
        for endpoint in self.endpoints.iter() {
            match Client::connect(endpoint, &options).await {
                Ok(client) if client.hello().get_bool("isWritablePrimary").unwrap_or(false) => return Ok(client),
                Ok(client) => last = Ok(client),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }
}

impl Asking {
    /// Its answer to a request, or why there is none.
    pub(in crate::net) async fn ask(&mut self, request: &Request) -> Result<RawDocumentBuf, String> {
        // A connection that failed is of no use any more.
        let client = self.client.take();
        match self.try_ask(client, request).await {
            Ok((client, document)) => {
                self.client = Some(client);
                Ok(document)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn try_ask(
        &self,
        client: Option<Client>,
        request: &Request,
    ) -> Result<(Client, RawDocumentBuf), ClientError> {
        let mut client = match client {
            Some(client) => client,
            None => self.upstream.connect().await?,
        };
        // Even what wants no answer is answered: so it is known that it was done.
        client.send(&OpMsg::new(0, &request.command)).await?;
        let (document, _) = client.reply().await?;
        let document = RawDocumentBuf::from_bytes(document);
        Ok((client, document.map_err(|error| ClientError::Undecodable(error.to_string()))?))
    }
}
