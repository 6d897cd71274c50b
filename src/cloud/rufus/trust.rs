//! Is it the cloud that answers? The system's root certificates, judged by the clock of the box.
//!
//! What must hold: nothing is sent to a server whose certificate does not hold; why it does not is told in a way that
//! says what to do (set the clock, log in to the network, call the cloud); and a box that has no root certificates, or
//! is told the time later, starts, reads, and uploads as soon as it can, without a restart.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::model::clock::{Wall, box_clock_set};

const BOX_CLOCK: &str = "box_clock_wrong";
const NO_ROOTS_HERE: &str = "no_root_certificates";
const NOT_TRUSTED: &str = "cloud_not_trusted";

/// Why the server is not taken for the cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The box was not told the time: nothing can be said about the certificate.
    #[error(
        "the clock of this box is wrong, it shows {}: the cloud's certificate is not valid yet. Give the box a network time or \
         set its clock; the upload then goes on by itself", minute(*.shows)
    )]
    BoxClock {
        /// What the clock shows.
        shows: Timestamp,
    },
    /// The clock is believable and before the certificate's time.
    #[error(
        "the cloud's certificate is not valid before {}, and the clock of this box shows {}: is the clock right?",
        minute(*.from), minute(*.shows)
    )]
    NotYet {
        /// Start of its time.
        from: Timestamp,
        /// What the clock shows.
        shows: Timestamp,
    },
    /// The clock is believable and after the certificate's time.
    #[error(
        "the cloud's certificate ended at {}, and the clock of this box shows {}: if the clock is right, the cloud has to \
         renew it, or something else answers in its place", minute(*.until), minute(*.shows)
    )]
    Expired {
        /// End of its time.
        until: Timestamp,
        /// What the clock shows.
        shows: Timestamp,
    },
    /// The certificate is somebody else's.
    #[error(
        "what answers is not the cloud: its certificate is for {presented}. Log in to the network (a captive portal?), or \
         check [cloud].url"
    )]
    OtherName {
        /// Whose it is.
        presented: String,
    },
    /// Nobody known vouches for the certificate.
    #[error(
        "what answers has a certificate that nobody known vouches for: a captive portal or a filter is between the box and \
         the cloud; log in to the network, or use another one"
    )]
    UnknownIssuer,
    /// No root certificates on this box.
    #[error("this box has no root certificates to know the cloud by; install Debian's ca-certificates")]
    NoRoots,
    /// The handshake failed otherwise.
    #[error("no trusted connection ({0}); is something between the box and the internet?")]
    Other(String),
}

impl Distrust {
    /// Every [`Distrust::code`].
    pub const CODES: [&str; 3] = [BOX_CLOCK, NO_ROOTS_HERE, NOT_TRUSTED];

    /// Stable name of the problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BoxClock { .. } => BOX_CLOCK,
            Self::NoRoots => NO_ROOTS_HERE,
            _ => NOT_TRUSTED,
        }
    }
}

fn minute(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Text by which [`Trust`] says that there are no roots; rustls has no word for it.
const NO_ROOTS: &str = "no root certificates";

/// The system's verifier, loaded when it is first needed, with the time from the box's clock.
#[derive(Debug)]
struct Trust {
    clock: Wall,
    provider: Arc<CryptoProvider>,
    /// Beside the system's.
    extra: Vec<CertificateDer<'static>>,
    loaded: Mutex<Option<Arc<Verifier>>>,
}

impl Trust {
    fn verifier(&self) -> Result<Arc<Verifier>, rustls::Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verifier) = &*loaded {
            return Ok(Arc::clone(verifier));
        }
        let verifier = Verifier::new_with_extra_roots(self.extra.clone(), Arc::clone(&self.provider));
        let verifier = Arc::new(verifier.map_err(|_| rustls::Error::General(NO_ROOTS.into()))?);
        *loaded = Some(Arc::clone(&verifier));
        Ok(verifier)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Before 1970 is as wrong as 1970.
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS as the client needs it. `extra` roots count beside the system's.
pub(super) fn tls(clock: Wall, extra: Vec<CertificateDer<'static>>) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = Trust { clock, provider: Arc::clone(&provider), extra, loaded: Mutex::new(None) };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    Ok(config)
}

/// What an error goes back to, the outermost first.
pub(super) fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        // An I/O error hides what it wraps from `source`, and another I/O error may be what it wraps.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map_or_else(|| cause.source(), |inner| Some(inner as &(dyn std::error::Error + 'static)))
    })
}

/// What rustls says, wherever it sits in the chain of causes; `None`: nothing.
pub(super) fn distrust(error: &reqwest::Error) -> Option<Distrust> {
    causes(error).find_map(|cause| cause.downcast_ref().map(classify))
}

fn classify(error: &rustls::Error) -> Distrust {
    use CertificateError as Bad;
    let other = || Distrust::Other(error.to_string());
    let bad = match error {
        rustls::Error::InvalidCertificate(bad) => bad,
        rustls::Error::General(text) if text == NO_ROOTS => return Distrust::NoRoots,
        _ => return other(),
    };
    match bad {
        Bad::NotValidYetContext { time, .. } | Bad::ExpiredContext { time, .. } if !box_clock_set(instant(*time)) => {
            Distrust::BoxClock { shows: instant(*time) }
        }
        Bad::NotValidYetContext { time, not_before } => {
            Distrust::NotYet { from: instant(*not_before), shows: instant(*time) }
        }
        Bad::ExpiredContext { time, not_after } => {
            Distrust::Expired { until: instant(*not_after), shows: instant(*time) }
        }
        Bad::NotValidForNameContext { presented, .. } => Distrust::OtherName { presented: names(presented) },
        Bad::NotValidForName => Distrust::OtherName { presented: "another name".into() },
        // What a self-signed certificate looks like: it vouches for itself.
        Bad::UnknownIssuer | Bad::BadSignature => Distrust::UnknownIssuer,
        Bad::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => Distrust::UnknownIssuer,
        _ => other(),
    }
}

fn instant(time: UnixTime) -> Timestamp {
    i64::try_from(time.as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

/// Whose a certificate is, the first few names of it.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    let plain = |name: &String| name.trim_start_matches("DnsName(\"").trim_end_matches("\")").to_owned();
    let shown: Vec<_> = presented.iter().take(SHOWN).map(plain).collect();
    if shown.is_empty() { "nobody".into() } else { shown.join(", ") }
}
