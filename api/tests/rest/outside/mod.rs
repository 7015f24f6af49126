//! Services outside, as far as they concern us, in this process: they answer like the real ones, errors
//! included.

pub(crate) mod cronjob_org;
pub(crate) mod easycron;
pub(crate) mod openai;
pub(crate) mod stripe;

use api::outbound::{Outbound, OutboundAnswer, OutboundError, OutboundRequest};
use api::services::{Diagnosis, Price, Secret, Services};
use axum::Router;
use axum::body::Body;
use domain::account::Plan;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, StatusCode};
use std::collections::VecDeque;
use std::sync::Mutex;
use tower::ServiceExt;

pub(crate) const STRIPE: &str = "stripe.test";
pub(crate) const EASYCRON: &str = "easycron.test";
pub(crate) const CRONJOB_ORG: &str = "cronjob-org.test";
pub(crate) const OPENAI: &str = "openai.test";

/// What a service does instead of answering.
pub(crate) enum Fault {
    Timeout,
    Unreachable,
    /// Status, `Retry-After` if there is one, body.
    Answer(u16, Option<&'static str>, &'static str),
    /// The body of an answer with status 200.
    Bytes(Vec<u8>),
}

/// What proxies and load balancers answer.
pub(crate) const HTML: &str = "<html><head><title>502 Bad Gateway</title></head></html>";

/// All of them.
pub(crate) struct Outside {
    pub(crate) stripe: stripe::Stripe,
    pub(crate) easycron: easycron::EasyCron,
    pub(crate) cronjob_org: cronjob_org::CronjobOrg,
    pub(crate) openai: openai::OpenAi,
    faults: Mutex<VecDeque<(&'static str, Fault)>>,
    calls: Mutex<Vec<String>>,
}

impl Outside {
    pub(crate) fn new() -> Self {
        Self {
            stripe: stripe::Stripe::default(),
            easycron: easycron::EasyCron::default(),
            cronjob_org: cronjob_org::CronjobOrg::default(),
            openai: openai::OpenAi::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Settings that know all of them.
    pub(crate) fn services() -> Services {
        let url = |host: &str| format!("https://{host}").parse().unwrap();
        let mut services = Services::new("https://justrun.test/");
        services.stripe.base_url = url(STRIPE);
        services.stripe.secret_key = Some(Secret::new(stripe::KEY));
        services.stripe.webhook_secret = Some(Secret::new(stripe::WEBHOOK_SECRET));
        services.stripe.success_url = "https://justrun.test/paid?session={CHECKOUT_SESSION_ID}".to_owned();
        services.stripe.prices = [
            ("price_maker_monthly", Plan::Maker, stripe::MAKER_PRICE),
            ("price_pro_monthly", Plan::Pro, stripe::PRO_PRICE),
        ]
        .map(|(alias, plan, price)| Price { alias: alias.to_owned(), plan, price: price.to_owned() })
        .into();
        services.easycron = url(EASYCRON);
        services.cronjob_org = url(CRONJOB_ORG);
        services.diagnosis = Some(Diagnosis {
            url: format!("https://{OPENAI}/v1").parse().unwrap(),
            key: Some(Secret::new(openai::KEY)),
            model: openai::MODEL.to_owned(),
        });
        services
    }

    /// Lets the next call of `host` for which there is none yet go wrong.
    pub(crate) fn fail(&self, host: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push_back((host, fault));
    }

    /// Lets nothing go wrong any more.
    pub(crate) fn forget_faults(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// What `host` was asked, as `METHOD path?query`.
    pub(crate) fn calls(&self, host: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter_map(|call| call.strip_prefix(host)).map(|call| call.trim().to_owned()).collect()
    }

    fn router(&self, host: &str) -> Option<Router> {
        match host {
            STRIPE => Some(self.stripe.router()),
            EASYCRON => Some(self.easycron.router()),
            CRONJOB_ORG => Some(self.cronjob_org.router()),
            OPENAI => Some(self.openai.router()),
            _ => None,
        }
    }

    fn fault(&self, host: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(of, _)| *of == host)?;
        faults.remove(index).map(|(_, fault)| fault)
    }

    async fn answer(&self, request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
        let host = request.url.host_str().unwrap().to_owned();
        let target = request.url[url::Position::BeforePath..].to_owned();
        self.calls.lock().unwrap().push(format!("{host} {} {target}", request.method));
        match self.fault(&host) {
            Some(Fault::Timeout) => return Err(OutboundError::Timeout),
            Some(Fault::Unreachable) => return Err(OutboundError::Unreachable),
            Some(Fault::Answer(status, retry_after, body)) => {
                let mut headers = HeaderMap::new();
                headers.extend(retry_after.map(|after| (hyper::header::RETRY_AFTER, after.parse().unwrap())));
                let status = StatusCode::from_u16(status).unwrap();
                return Ok(OutboundAnswer { status, headers, body: body.into() });
            }
            Some(Fault::Bytes(body)) => {
                let (status, headers) = (StatusCode::OK, HeaderMap::new());
                return Ok(OutboundAnswer { status, headers, body: body.into() });
            }
            None => {}
        }
        let router = self.router(&host).ok_or(OutboundError::Unreachable)?;
        let mut builder = Request::builder().method(request.method).uri(target);
        builder.headers_mut().unwrap().extend(request.headers);
        let response = router.oneshot(builder.body(Body::from(request.body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if body.len() > request.answer_bytes_max {
            return Err(OutboundError::TooLarge);
        }
        Ok(OutboundAnswer { status: parts.status, headers: parts.headers, body })
    }
}

impl Outbound for Outside {
    fn send(&self, request: OutboundRequest) -> BoxFuture<'_, Result<OutboundAnswer, OutboundError>> {
        Box::pin(self.answer(request))
    }
}
