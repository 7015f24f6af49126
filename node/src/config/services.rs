//! Settings of services outside: payments, importers, diagnoses.

use super::{ConfigError, Secret, invalid};
use crate::cli::ServiceArgs;
use api::services::{Diagnosis, Price, Services};
use domain::account::Plan;
use url::Url;

/// What the flags say; browsers come back to `home` unless they say otherwise.
pub(super) fn services(args: ServiceArgs, home: &str) -> Result<Services, ConfigError> {
    let mut services = Services::new(&format!("{home}/"));
    let stripe = &mut services.stripe;
    stripe.secret_key = args.stripe_secret_key.map(|key| secret("stripe-secret-key", &key)).transpose()?;
    stripe.webhook_secret =
        args.stripe_webhook_secret.map(|key| secret("stripe-webhook-secret", &key)).transpose()?;
    stripe.prices = args.stripe_prices.as_deref().map(prices).transpose()?.unwrap_or_default();
    set(&mut stripe.base_url, "stripe-base-url", args.stripe_base_url)?;
    set_page(&mut stripe.success_url, "stripe-success-url", args.stripe_success_url)?;
    set_page(&mut stripe.cancel_url, "stripe-cancel-url", args.stripe_cancel_url)?;
    set_page(&mut stripe.return_url, "stripe-return-url", args.stripe_return_url)?;
    set(&mut services.easycron, "easycron-base-url", args.easycron_base_url)?;
    set(&mut services.cronjob_org, "cronjob-org-base-url", args.cronjob_org_base_url)?;
    services.diagnosis = match (args.diagnosis_url, args.diagnosis_model) {
        (None, None) if args.diagnosis_key.is_none() => None,
        (Some(url), Some(model)) => {
            if model.trim().is_empty() {
                return Err(invalid("diagnosis-model", "must not be empty"));
            }
            let key = args.diagnosis_key.map(|key| secret("diagnosis-key", &key)).transpose()?;
            Some(Diagnosis { url: base_url("diagnosis-url", &url)?, key, model })
        }
        (None, _) => return Err(ConfigError::new("--diagnosis-url is required for diagnoses")),
        (Some(_), None) => {
            return Err(ConfigError::new("--diagnosis-model is required with --diagnosis-url"));
        }
    };
    Ok(services)
}

fn secret(flag: &'static str, secret: &Secret) -> Result<api::services::Secret, ConfigError> {
    let text = secret.expose().trim();
    if text.is_empty() {
        return Err(invalid(flag, "must not be empty"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(flag, "must be printable ASCII characters without spaces"));
    }
    Ok(api::services::Secret::new(text))
}

/// `ALIAS=PLAN:PRICE,…`
fn prices(text: &str) -> Result<Vec<Price>, ConfigError> {
    let mut prices: Vec<Price> = Vec::new();
    for entry in text.split(',').map(str::trim) {
        let parts = entry.split_once('=').and_then(|(alias, rest)| {
            let (plan, price) = rest.split_once(':')?;
            Some((alias.trim(), plan.trim(), price.trim()))
        });
        let parts = parts.filter(|(alias, _, price)| !alias.is_empty() && !price.is_empty());
        let Some((alias, plan, price)) = parts else {
            return Err(invalid("stripe-prices", format!("\"{entry}\" is not of the form ALIAS=PLAN:PRICE")));
        };
        let plan = Plan::ALL.into_iter().find(|known| *known != Plan::Free && known.as_str() == plan);
        let Some(plan) = plan else {
            return Err(invalid("stripe-prices", format!("\"{entry}\" names no plan: maker, pro or scale")));
        };
        if prices.iter().any(|known| known.alias == alias || known.price == price) {
            return Err(invalid("stripe-prices", format!("\"{entry}\" names something twice")));
        }
        prices.push(Price { alias: alias.to_owned(), plan, price: price.to_owned() });
    }
    Ok(prices)
}

fn set(target: &mut Url, flag: &'static str, given: Option<String>) -> Result<(), ConfigError> {
    if let Some(given) = given {
        *target = base_url(flag, &given)?;
    }
    Ok(())
}

fn base_url(flag: &'static str, text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    });
    url.ok_or_else(|| invalid(flag, format!("\"{text}\" is not an http or https URL without a query")))
}

/// Kept as it is written: Stripe fills in a placeholder in braces.
fn set_page(target: &mut String, flag: &'static str, given: Option<String>) -> Result<(), ConfigError> {
    let Some(given) = given else { return Ok(()) };
    if !Url::parse(&given).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return Err(invalid(flag, format!("\"{given}\" is not an http or https URL")));
    }
    *target = given;
    Ok(())
}
