//! Mail, over the mail server that the operator names.

use super::Refusal;
use super::message::Message;
use crate::executor::http::USER_AGENT_VALUE;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};
use url::{Host, Url};

/// Why no mail is sent while no mail server is configured.
pub(super) const NOT_CONFIGURED: &str = "Email is not configured on this server (--smtp-url)";
/// How long the mail server may take for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Replies that say that a mailbox will never take the message (RFC 5321, section 4.2.3). Others of the 5xx
/// kind blame the operator's settings, which can be put right.
const NO_SUCH_MAILBOX: [u16; 3] = [550, 551, 553];

/// The settings of the mail server cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmtpError {
    /// The server's URL. Says nothing of it, since it may hold a password.
    #[error("must be smtp://USER:PASSWORD@HOST:PORT or smtps://…")]
    Url,
    /// The sender.
    #[error("must be an address: alerts@example.com or JustRun <alerts@example.com>")]
    From,
}

/// Sends mail.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mailer {
    /// Mail through the server at `url`, from `from`. Without a sender it is the user of the URL when that is
    /// an address, else `justrun@` and the server's name. Opens no connection.
    ///
    /// # Errors
    /// [`SmtpError`].
    pub(crate) fn new(url: &str, from: Option<&str>) -> Result<Self, SmtpError> {
        let mut url = Url::parse(url).map_err(|_| SmtpError::Url)?;
        // A password goes over the wire in the clear otherwise, and a server that can do TLS says so.
        if url.scheme() == "smtp" && !url.query_pairs().any(|(name, _)| name == "tls") {
            let port = url.port().unwrap_or(smtp::SMTP_PORT);
            url.set_port(Some(port)).map_err(|()| SmtpError::Url)?;
            url.query_pairs_mut().append_pair("tls", "opportunistic");
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .map_err(|_| SmtpError::Url)?
            .timeout(Some(STEP_TIMEOUT))
            .build();
        let from = match from {
            Some(given) => given.to_owned(),
            None => default_from(&url),
        };
        Ok(Self { transport, from: from.parse().map_err(|_| SmtpError::From)? })
    }

    pub(super) async fn send(&self, addresses: &[String], message: &Message) -> Result<(), Refusal> {
        let Err(refusal) = self.send_to(addresses, message).await else { return Ok(()) };
        if addresses.len() == 1 || refusal.again != super::Again::Never {
            return Err(refusal);
        }
        // One mailbox that is gone must not keep the message from the others.
        let mut arrived = false;
        for address in addresses {
            arrived |= self.send_to(std::slice::from_ref(address), message).await.is_ok();
        }
        if arrived { Ok(()) } else { Err(refusal) }
    }

    async fn send_to(&self, addresses: &[String], message: &Message) -> Result<(), Refusal> {
        let mail = self
            .mail(addresses, message)
            .map_err(|error| Refusal::never(format!("No valid mail: {error}")))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal(&error)),
        }
    }

    fn mail(&self, addresses: &[String], message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(format!("[JustRun] {}", message.headline()))
            .date(UNIX_EPOCH + Duration::from_millis(message.created_at.as_millis()))
            // The same on every attempt, so that mail programs can drop a repeat.
            .message_id(Some(format!("<{}@{}>", message.id, self.from.email.domain())))
            .user_agent(USER_AGENT_VALUE.to_owned())
            // Keeps holiday notices from answering (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for address in addresses {
            let Ok(address) = address.parse() else { continue };
            builder = builder.to(Mailbox::new(None, address));
        }
        builder.multipart(MultiPart::alternative_plain_html(plain(message), html(message)))
    }
}

fn default_from(url: &Url) -> String {
    let user = url.username().replace("%40", "@");
    if user.contains('@') {
        return format!("JustRun <{user}>");
    }
    // A URL of this scheme is not looked at as closely as one of the web: addresses come as names.
    let host = url.host_str().filter(|host| matches!(Host::parse(host), Ok(Host::Domain(_))));
    format!("JustRun <justrun@{}>", host.unwrap_or("localhost"))
}

fn refusal(error: &smtp::Error) -> Refusal {
    let code = error.status().map(u16::from);
    let reason = match code {
        Some(_) => format!("The mail server refused the message: {error}"),
        None => format!("The mail server cannot be used: {error}"),
    };
    let is_final = code.is_some_and(|code| NO_SUCH_MAILBOX.contains(&code));
    if is_final { Refusal::never(reason) } else { Refusal::later(reason) }
}

fn plain(message: &Message) -> String {
    let mut text = format!("{}\n", message.headline());
    if let Some(explanation) = message.explanation() {
        text.push_str(explanation);
        text.push('\n');
    }
    text.push('\n');
    for (label, value) in message.facts() {
        let _ = writeln!(text, "{label}: {value}");
    }
    text
}

fn html(message: &Message) -> String {
    let mut text = format!(
        "<!DOCTYPE html><html><body style=\"font-family:sans-serif\"><h2>{}</h2>",
        escaped(&message.headline())
    );
    if let Some(explanation) = message.explanation() {
        let _ = write!(text, "<p>{}</p>", escaped(explanation));
    }
    text.push_str("<table>");
    for (label, value) in message.facts() {
        let _ = write!(text, "<tr><td>{label}</td><td>{}</td></tr>", escaped(&value));
    }
    text.push_str("</table></body></html>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::tests::failed;

    fn from(url: &str, from: Option<&str>) -> String {
        Mailer::new(url, from).unwrap().from.to_string()
    }

    #[test]
    fn the_sender_is_given_or_made_up_from_the_url() {
        assert_eq!(from("smtp://127.0.0.1:25", Some("Ops <ops@example.com>")), "Ops <ops@example.com>");
        assert_eq!(from("smtps://me%40example.com:pw@mail.example.com", None), "JustRun <me@example.com>");
        assert_eq!(from("smtp://user:pw@mail.example.com:587", None), "JustRun <justrun@mail.example.com>");
        assert_eq!(from("smtp://127.0.0.1:1025", None), "JustRun <justrun@localhost>");
        assert_eq!(from("smtp://[::1]:1025", None), "JustRun <justrun@localhost>");
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_telling_the_password() {
        for url in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://u:hunter2@",
            "smtp://u:hunter2@h?tls=maybe",
        ] {
            let error = Mailer::new(url, None).unwrap_err();
            assert!(matches!(error, SmtpError::Url), "{url}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(Mailer::new("smtp://h", Some("nobody")), Err(SmtpError::From)));
    }

    #[tokio::test]
    async fn a_mail_says_what_happened_and_that_nobody_wrote_it() {
        let mailer = Mailer::new("smtp://127.0.0.1:1", None).unwrap();
        let mut delivery = failed();
        delivery.job_name = "Säkerhetskopia <b>".to_owned();
        let message = Message::of(&delivery);
        let mail = mailer.mail(&["a@example.com".to_owned(), "b@example.com".to_owned()], &message).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        for line in [
            "From: JustRun <justrun@localhost>".to_owned(),
            "To: a@example.com, b@example.com".to_owned(),
            format!("Message-ID: <{}@localhost>", delivery.id),
            "Auto-Submitted: auto-generated".to_owned(),
            "Date: Fri, 10 Apr 2026 15:45:00 +0000".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.is_ascii(), "every server takes it");
        assert!(html(&message).contains("<h2>Säkerhetskopia &lt;b&gt; failed</h2>"));
        assert!(plain(&message).contains("Status code: 503\n"));
    }
}
