//! Who we are to a registry, told when it asks: by a password (RFC 7617) or a
//! token of the service that it names (distribution's token authentication).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::parser::ChallengeParser;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::transport::{Target, Transport};
use crate::upload::Content;
use crate::{Credentials, Error};

/// Longest answer with a token, in bytes.
const MAX_TOKEN_LEN: usize = 1 << 20;
/// How long a token lives of which nothing is said, and how long at most.
const DEFAULT_LIFE: u64 = 60;
const MAX_LIFE: u64 = 24 * 60 * 60;
/// A token is not used when it has less than this to live.
const MARGIN: Duration = Duration::from_secs(5);

/// What is to be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// Who we are to one registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Nobody,
    Password {
        user: String,
        password: String,
    },
    /// Something that only the service of tokens takes.
    Refresh(String),
}

/// What registries have granted us.
#[derive(Default)]
pub(crate) struct Authority {
    grants: Mutex<HashMap<Scope, Grant>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Scope {
    registry: String,
    repository: String,
    access: Access,
}

struct Grant {
    header: HeaderValue,
    /// `None` for a password, which does not expire.
    until: Option<Instant>,
}

/// How a registry wants to know who we are.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authority {
    /// The header that was granted before, unless it is too old.
    pub(crate) async fn known(&self, target: &Target) -> Option<HeaderValue> {
        let grants = self.grants.lock().await;
        let grant = grants.get(&Scope::of(target))?;
        let lives = grant.until.is_none_or(|until| Instant::now() < until);
        lives.then(|| grant.header.clone())
    }
}

impl Transport {
    /// The header that the registry asks for with `headers`, after it has
    /// refused a request with the header `refused`.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        headers: &HeaderMap,
        refused: Option<HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        // Held all the time, so that parallel requests ask once.
        let mut grants = self.authority.grants.lock().await;
        let scope = Scope::of(target);
        match grants.get(&scope) {
            Some(grant) if Some(&grant.header) != refused.as_ref() => {
                return Ok(grant.header.clone());
            }
            _ => {}
        }
        let challenge = Challenge::of(headers).ok_or_else(|| denied(target))?;
        let identity = self.identity(&target.registry)?;
        let grant = match challenge {
            Challenge::Basic => Grant {
                header: basic(&identity).ok_or_else(|| denied(target))?,
                until: None,
            },
            Challenge::Bearer { realm, service } => {
                self.token(target, &realm, service.as_deref(), &identity)
                    .await?
            }
        };
        let header = grant.header.clone();
        grants.insert(scope, grant);
        Ok(header)
    }

    fn identity(&self, registry: &str) -> Result<Identity, Error> {
        Ok(match &self.options.credentials {
            Credentials::Anonymous => Identity::Nobody,
            Credentials::Docker(config) => config.identity(registry)?,
            Credentials::Password { user, password } => Identity::Password {
                user: user.clone(),
                password: password.clone(),
            },
        })
    }

    async fn token(
        &self,
        target: &Target,
        realm: &str,
        service: Option<&str>,
        identity: &Identity,
    ) -> Result<Grant, Error> {
        let mut url = self.realm(target, realm)?;
        let target = Target {
            what: format!("the token for {}", target.what),
            ..target.clone()
        };
        let scope = target.scope();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(service.map(|service| ("service", service)));
        query.extend_pairs(scope.as_deref().map(|scope| ("scope", scope)));
        let request = match identity {
            Identity::Refresh(token) => {
                query.extend_pairs([
                    ("grant_type", "refresh_token"),
                    ("client_id", "shem"),
                    ("refresh_token", token),
                ]);
                drop(query);
                self.refresh(url)
            }
            _ => {
                drop(query);
                self.request(Method::GET, url)
            }
        };
        let header = basic(identity);
        let response = self.transmit(&target, &request, header.as_ref()).await?;
        let mut response = self.checked(&target, response).await?;
        let body = self.small(&target, &mut response, MAX_TOKEN_LEN).await?;
        bearer(&body).ok_or_else(|| target.protocol("sends no token that can be used"))
    }

    /// The address of the service of tokens, to which a secret may go.
    fn realm(&self, target: &Target, realm: &str) -> Result<Url, Error> {
        let plain = self.http.base(&target.registry)?.scheme() == "http";
        Url::parse(realm)
            .ok()
            .filter(|url| url.scheme() == "https" || (plain && url.scheme() == "http"))
            .ok_or_else(|| {
                target.protocol(format!(
                    "wants a token from `{}`, which is no address that secrets are sent to",
                    realm.escape_debug()
                ))
            })
    }

    /// A refresh token goes in the body, where no log has it: the query becomes
    /// the form.
    fn refresh(&self, mut url: Url) -> crate::transport::Request<'static> {
        let form = url.query().unwrap_or_default().to_owned();
        url.set_query(None);
        let mut request = self.request(Method::POST, url);
        request.content = Content::Bytes(form.into_bytes());
        request.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        request
    }
}

impl Target {
    /// The rights that are asked for; none for a login.
    fn scope(&self) -> Option<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        (!self.repository.is_empty()).then(|| format!("repository:{}:{actions}", self.repository))
    }
}

impl Scope {
    fn of(target: &Target) -> Self {
        Self {
            registry: target.registry.clone(),
            repository: target.repository.clone(),
            access: target.access,
        }
    }
}

impl Challenge {
    /// The one that we take of those offered: tokens rather than passwords.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = value.to_str() else {
                continue;
            };
            for challenge in ChallengeParser::new(text).map_while(Result::ok) {
                let parameter = |wanted: &str| {
                    let mut all = challenge.params.iter();
                    all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                        .map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    let service = parameter("service");
                    return Some(Self::Bearer { realm, service });
                }
            }
        }
        basic
    }
}

fn denied(target: &Target) -> Error {
    Error::Denied {
        what: target.what.clone(),
        registry: target.registry.clone(),
        status: 401,
    }
}

fn basic(identity: &Identity) -> Option<HeaderValue> {
    let Identity::Password { user, password } = identity else {
        return None;
    };
    let secret = STANDARD.encode(format!("{user}:{password}"));
    secret_header(&format!("Basic {secret}"))
}

/// The grant in the answer of a service of tokens.
fn bearer(body: &[u8]) -> Option<Grant> {
    let token: Token = serde_json::from_slice(body).ok()?;
    let life = token.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE);
    let text = token.token.or(token.access_token)?;
    Some(Grant {
        header: secret_header(&format!("Bearer {text}"))?,
        until: Some(Instant::now() + Duration::from_secs(life).saturating_sub(MARGIN)),
    })
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let headers = values
            .iter()
            .map(|value| (WWW_AUTHENTICATE, HeaderValue::from_static(value)));
        Challenge::of(&headers.collect())
    }

    #[test]
    fn token_is_preferred_to_password() {
        let bearer = Some(Challenge::Bearer {
            realm: "https://a/t?x=1".into(),
            service: Some("s".into()),
        });
        let text = r#"Bearer realm="https://a/t?x=1",service="s",scope="r:a,b""#;
        assert_eq!(challenge(&["Basic realm=\"x\"", text]), bearer);
        assert_eq!(challenge(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for none in ["", "Digest realm=\"x\"", "Bearer service=\"s\"", "\"\"\","] {
            assert_eq!(challenge(&[none]), None, "{none}");
        }
    }

    #[test]
    fn token_that_is_no_header_is_refused() {
        assert!(bearer(br#"{"token":"abc"}"#).is_some());
        assert!(bearer(br#"{"access_token":"abc","expires_in":99999999999999}"#).is_some());
        for body in [r#"{"token":"a\nb"}"#, "{}", "[]", "", r#"{"token":1}"#] {
            assert!(bearer(body.as_bytes()).is_none(), "{body}");
        }
    }
}
