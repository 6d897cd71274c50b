//! Checks whether the server that answers is the cloud, with the system's root certificates and the
//! box's clock.
//!
//! What must hold: nothing is sent to a server whose certificate is not valid. The error says why
//! it is not valid, in words that tell the timer what to do (set the clock, log in to the network,
//! call the cloud). A box without root certificates, or without the right time, starts, keeps
//! reads, and uploads them as soon as it can, without a restart.

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
use crate::status::ProblemCode;

/// Why the server is not accepted as the cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The box does not know the time, so the certificate cannot be checked.
    #[error(
        "the clock of this box is wrong, it shows {}: the cloud's certificate is not valid yet. Give the box a network time or \
         set its clock; the upload then goes on by itself", minute(*.shows)
    )]
    BoxClock {
        /// Time on the box's clock.
        shows: Timestamp,
    },
    /// The clock is believable, and earlier than the start of the certificate.
    #[error(
        "the cloud's certificate is not valid before {}, and the clock of this box shows {}: is the clock right?",
        minute(*.from), minute(*.shows)
    )]
    NotYet {
        /// Start of the certificate's validity.
        from: Timestamp,
        /// Time on the box's clock.
        shows: Timestamp,
    },
    /// The clock is believable, and later than the end of the certificate.
    #[error(
        "the cloud's certificate ended at {}, and the clock of this box shows {}: if the clock is right, the cloud has to \
         renew it, or something else answers in its place", minute(*.until), minute(*.shows)
    )]
    Expired {
        /// End of the certificate's validity.
        until: Timestamp,
        /// Time on the box's clock.
        shows: Timestamp,
    },
    /// The certificate is for another name.
    #[error(
        "what answers is not the cloud: its certificate is for {presented}. Log in to the network (a captive portal?), or \
         check [cloud].url"
    )]
    OtherName {
        /// Names in the certificate.
        presented: String,
    },
    /// No known authority issued the certificate.
    #[error(
        "what answers has a certificate that nobody known vouches for: a captive portal or a filter is between the box and \
         the cloud; log in to the network, or use another one"
    )]
    UnknownIssuer,
    /// The box has no root certificates.
    #[error("this box has no root certificates to know the cloud by; install Debian's ca-certificates")]
    NoRoots,
    /// The handshake failed for another reason.
    #[error("no trusted connection ({0}); is something between the box and the internet?")]
    Other(String),
}

impl Distrust {
    /// Every value of [`Distrust::code`].
    pub const CODES: [ProblemCode; 3] =
        [ProblemCode::BoxClockWrong, ProblemCode::NoRootCertificates, ProblemCode::CloudNotTrusted];

    /// The problem that shows this fault.
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::BoxClock { .. } => ProblemCode::BoxClockWrong,
            Self::NoRoots => ProblemCode::NoRootCertificates,
            Self::NotYet { .. }
            | Self::Expired { .. }
            | Self::OtherName { .. }
            | Self::UnknownIssuer
            | Self::Other(_) => ProblemCode::CloudNotTrusted,
        }
    }
}

fn minute(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Text with which [`Trust`] reports that there are no roots, because rustls has no error for it.
const NO_ROOTS: &str = "no root certificates";

/// The system's verifier, loaded when it is first needed. It uses the box's clock.
#[derive(Debug)]
struct Trust {
    clock: Wall,
    provider: Arc<CryptoProvider>,
    /// Root certificates in addition to those of the system.
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
        // A clock before 1970 is treated as 1970, because both are wrong.
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

/// The TLS settings of the client. The `extra` roots are used in addition to those of the system.
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

/// The chain of causes of an error, the outermost first.
pub(super) fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        // The `source` of an I/O error skips the error that it wraps, and that may be another I/O
        // error.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map_or_else(|| cause.source(), |inner| Some(inner as &(dyn std::error::Error + 'static)))
    })
}

/// Returns the error of rustls, wherever it is in the chain of causes. `None`: there is none.
pub(super) fn distrust(error: &reqwest::Error) -> Option<Distrust> {
    causes(error).find_map(|cause| cause.downcast_ref().map(classify))
}

/// The text of the error of rustls, wherever it is in the chain of causes. `None`: there is none.
pub(super) fn untrusted(error: &reqwest::Error) -> Option<String> {
    causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()).map(ToString::to_string)
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
        // A self-signed certificate causes these errors, because it vouches for itself.
        Bad::UnknownIssuer | Bad::BadSignature => Distrust::UnknownIssuer,
        Bad::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => Distrust::UnknownIssuer,
        _ => other(),
    }
}

fn instant(time: UnixTime) -> Timestamp {
    i64::try_from(time.as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

/// The first few names in a certificate.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    let plain = |name: &String| name.trim_start_matches("DnsName(\"").trim_end_matches("\")").to_owned();
    let shown: Vec<_> = presented.iter().take(SHOWN).map(plain).collect();
    if shown.is_empty() { "nobody".into() } else { shown.join(", ") }
}
