//! One request to a registry: sent with who we are, waited for with a limit,
//! and its answer sorted into success and our errors.

use std::future::Future;
use std::time::Duration;

use oci_client::Reference;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::timeout;

use crate::auth::{Access, Authority};
use crate::fault::{broken, detail, retry_after, wants_tls};
use crate::http::{Http, Redirects};
use crate::retry::Retry;
use crate::upload::Content;
use crate::{Error, Options};

/// Longest answer that is read to explain an error, in bytes.
const MAX_ERROR_LEN: usize = 16 << 10;

pub(crate) struct Transport {
    pub(crate) options: Options,
    pub(crate) http: Http,
    pub(crate) authority: Authority,
}

/// What a request is about: for the rights that it needs, and for its errors.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// A reference, or a blob of one.
    pub(crate) what: String,
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) access: Access,
}

impl Target {
    pub(crate) fn of(reference: &Reference, access: Access) -> Self {
        Self {
            what: reference.whole(),
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            access,
        }
    }

    pub(crate) fn blob(&self, digest: &gvmi::Digest) -> Self {
        Self {
            what: format!("blob {digest} of {}", self.what),
            ..self.clone()
        }
    }

    pub(crate) fn protocol(&self, fault: impl Into<String>) -> Error {
        Error::Protocol {
            what: self.what.clone(),
            registry: self.registry.clone(),
            fault: fault.into(),
        }
    }
}

/// A request that can be sent more than once.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content<'a>,
    /// Longest time without a byte.
    pub(crate) patience: Duration,
}

impl Transport {
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        Ok(Self {
            http: Http::new(&options)?,
            authority: Authority::default(),
            options,
        })
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> Request<'static> {
        Request {
            method,
            url,
            headers: HeaderMap::new(),
            content: Content::None,
            patience: self.options.idle_timeout,
        }
    }

    /// The URL of something in the repository of `target`.
    pub(crate) fn url(&self, target: &Target, path: &str) -> Result<Url, Error> {
        let base = self.http.base(&target.registry)?;
        base.join(&format!("{}/{path}", target.repository))
            .map_err(|_| Error::Address {
                registry: target.registry.clone(),
            })
    }

    /// Refuses an image whose blobs have `size` bytes, if that is too much.
    pub(crate) fn afford(&self, reference: &Reference, size: u64) -> Result<(), Error> {
        match self.options.max_size {
            max if size > max => Err(Error::TooLarge {
                reference: reference.whole(),
                size,
                max,
            }),
            _ => Ok(()),
        }
    }

    /// Sends `request` until it succeeds, or fails in a way that lasts.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: &Request<'_>,
    ) -> Result<Response, Error> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.once(target, request).await {
                Ok(response) => return Ok(response),
                Err(error) => retry.wait(error).await?,
            }
        }
    }

    /// Sends `request` once; twice, when only then it is known as whom.
    pub(crate) async fn once(
        &self,
        target: &Target,
        request: &Request<'_>,
    ) -> Result<Response, Error> {
        let ours = self.http.base(&target.registry)?.origin() == request.url.origin();
        let grant = match ours {
            true => self.authority.known(target).await,
            false => None,
        };
        let response = self.transmit(target, request, grant.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !ours {
            return self.checked(target, response).await;
        }
        let grant = self.ask(target, response.headers(), grant).await?;
        let response = self.transmit(target, request, Some(&grant)).await?;
        self.checked(target, response).await
    }

    /// Sends `request` as it is, and waits for the head of the answer.
    pub(crate) async fn transmit(
        &self,
        target: &Target,
        request: &Request<'_>,
        grant: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        let redirects = match request.method {
            Method::GET | Method::HEAD => Redirects::Follow,
            _ => Redirects::Refuse,
        };
        let client = self.http.client(&request.url, redirects);
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if let Some(grant) = grant {
            builder = builder.header(AUTHORIZATION, grant);
        }
        request
            .content
            .transmit(target, builder, request.patience)
            .await
    }

    /// `response`, if it is success.
    pub(crate) async fn checked(
        &self,
        target: &Target,
        mut response: Response,
    ) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (what, registry) = (target.what.clone(), target.registry.clone());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
                what,
                registry,
                status: status.as_u16(),
            },
            StatusCode::NOT_FOUND => Error::NotFound { what, registry },
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimit {
                what,
                registry,
                after: retry_after(response.headers()),
            },
            _ => {
                // Without an explanation it is the same error.
                let body = self.small(target, &mut response, MAX_ERROR_LEN).await;
                let body = body.unwrap_or_default();
                let is_plain = response.url().scheme() == "http";
                match is_plain && status == StatusCode::BAD_REQUEST && wants_tls(&body) {
                    true => Error::NotPlain { registry },
                    false => Error::Status {
                        what,
                        registry,
                        status: status.as_u16(),
                        detail: detail(&body),
                    },
                }
            }
        })
    }

    /// The body of `response`, which must not be longer than `limit` bytes. It
    /// has to come within the time in which nothing else may come.
    pub(crate) async fn small(
        &self,
        target: &Target,
        response: &mut Response,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| broken(target, e))? {
                if body.len() + chunk.len() > limit {
                    return Err(target.protocol(format!(
                        "sends more than the {limit} bytes that are read of such an answer"
                    )));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        within(target, self.options.idle_timeout, read).await
    }
}

/// Waits for `future` as long as `patience`.
pub(crate) async fn within<T>(
    target: &Target,
    patience: Duration,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let silent = |_| Error::Silent {
        what: target.what.clone(),
        registry: target.registry.clone(),
        waited: patience,
    };
    timeout(patience, future).await.map_err(silent)?
}
