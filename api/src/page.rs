//! Lists in pages: which one is asked for, and finding it without reading what lies before it.

use crate::Deps;
use crate::error::ApiError;
use crate::extract::Query;
use crate::fields::Issues;
use crate::openapi::shape;
use domain::limits;
use serde::Serialize;
use std::ops::RangeInclusive;
use storage::{Keyspace, Read};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Type};

/// Keys looked at in one view: some tens of microseconds, so that applies are not held back.
const KEYS_AT_ONCE: usize = 1_000;

/// Which page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    page: u64,
    per_page: u64,
}

impl utoipa::IntoParams for PageRequest {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        Self::parameters(limits::PER_PAGE_DEFAULT as usize, limits::PER_PAGE_MAX as usize)
    }
}

impl PageRequest {
    /// Reads `page` and `per_page`. A query holds nothing but strings, so what is no number there is a
    /// senseless value and not a wrong type.
    pub(crate) fn read(query: &Query, issues: &mut Issues) -> Self {
        let (default, max) = (u64::from(limits::PER_PAGE_DEFAULT), u64::from(limits::PER_PAGE_MAX));
        Self {
            page: number(query, "page", 1, 1..=u64::MAX, issues),
            per_page: number(query, "per_page", default, 1..=max, issues),
        }
    }

    /// As [`PageRequest::read`] where everything is given to whom asks for no page, and a page is `per_page_max`
    /// items unless said otherwise.
    pub(crate) fn read_if_given(query: &Query, per_page_max: usize, issues: &mut Issues) -> Option<Self> {
        let given = ["page", "per_page"].map(|name| query.text(name, &mut Issues::default()).is_some());
        let max = u64::try_from(per_page_max).expect("a page is small");
        let request = Self {
            page: number(query, "page", 1, 1..=u64::MAX, issues),
            per_page: number(query, "per_page", max, 1..=max, issues),
        };
        given.contains(&true).then_some(request)
    }

    /// The parameters, as the document says them.
    pub(crate) fn parameters(per_page_default: usize, per_page_max: usize) -> Vec<Parameter> {
        let number =
            |about| ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).description(Some(about));
        let per_page =
            number("Results per page").maximum(Some(per_page_max)).default(Some(per_page_default.into()));
        vec![
            shape::query("page", number("Page number").default(Some(1.into()))),
            shape::query("per_page", per_page),
        ]
    }

    /// How many items lie before the page.
    pub(crate) fn offset(self) -> u64 {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// How many items the page holds at most.
    pub(crate) fn len(self) -> usize {
        usize::try_from(self.per_page).expect("a page is small")
    }
}

fn number(query: &Query, name: &str, default: u64, range: RangeInclusive<u64>, issues: &mut Issues) -> u64 {
    let Some(text) = query.text(name, issues) else { return default };
    // An empty or signed text is no number here, though `parse` would take "+1".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        issues.meaning(name, "must be a positive integer");
        return default;
    }
    // Digits fail to parse only when there are too many.
    match text.parse::<u64>() {
        Ok(number) if range.contains(&number) => return number,
        Ok(number) if *range.end() == u64::MAX && number < *range.start() => {
            issues.meaning(name, format!("must be at least {}", range.start()));
        }
        Err(_) if *range.end() == u64::MAX => {
            issues.meaning(name, format!("must be at most {}", range.end()));
        }
        _ => issues.meaning(name, format!("must be between {} and {}", range.start(), range.end())),
    }
    default
}

/// The answer to a list: one page and where it stands.
#[derive(Serialize)]
pub(crate) struct Page<T> {
    data: Vec<T>,
    meta: Meta,
}

/// Where a page stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct Meta {
    page: u64,
    per_page: u64,
    /// How many there are in all pages.
    total: u64,
}

impl<T> Page<T> {
    pub(crate) fn new(request: PageRequest, total: u64, data: Vec<T>) -> Self {
        Self { data, meta: Meta { page: request.page, per_page: request.per_page, total } }
    }
}

/// The keys of one page of `K` below `prefix`, of those that are `wanted`. Skips by keys alone, some at a time, and
/// lets others run in between.
pub(crate) async fn keys<K>(
    deps: &Deps,
    prefix: &[u8],
    request: PageRequest,
    wanted: impl Fn(&K::Key) -> bool,
) -> Result<Vec<K::Key>, ApiError>
where
    K: Keyspace,
    K::Key: Copy + Send,
{
    keys_behind::<K>(deps, prefix, None, request.offset(), request.len(), wanted).await
}

/// As [`keys`], from behind `after` on, with `skip` wanted keys between it and the `len` keys of the page.
pub(crate) async fn keys_behind<K>(
    deps: &Deps,
    prefix: &[u8],
    mut after: Option<K::Key>,
    mut skip: u64,
    len: usize,
    wanted: impl Fn(&K::Key) -> bool,
) -> Result<Vec<K::Key>, ApiError>
where
    K: Keyspace,
    K::Key: Copy + Send,
{
    let mut page = Vec::new();
    loop {
        let missing = u64::try_from(len - page.len()).expect("a page is small");
        let limit = usize::try_from(skip.saturating_add(missing))
            .map_or(KEYS_AT_ONCE, |limit| limit.min(KEYS_AT_ONCE));
        let keys = deps.read(|view| view.keys_prefix::<K>(prefix, after.as_ref(), limit))?;
        for key in keys.iter().filter(|key| wanted(key)) {
            if skip > 0 {
                skip -= 1;
            } else {
                page.push(*key);
            }
        }
        if keys.len() < limit || page.len() == len {
            return Ok(page);
        }
        after = keys.last().copied();
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<(u64, usize), &[&str]>) {
        let mut issues = Issues::default();
        let request = PageRequest::read(&Query::of(query), &mut issues);
        let found: Vec<_> = issues.list().iter().map(|i| format!("{} {}", i.field, i.issue)).collect();
        match expected {
            Ok(expected) => {
                assert_eq!(found, [""; 0], "{query}");
                assert_eq!((request.offset(), request.len()), expected, "{query}");
            }
            Err(expected) => assert_eq!(found, expected, "{query}"),
        }
        assert!(!issues.misshapen(), "{query}");
    }

    #[test]
    fn pages_are_numbered_from_one() {
        check("", Ok((0, 20)));
        check("page=1&per_page=100&utm=x", Ok((0, 100)));
        check("page=3&per_page=7", Ok((14, 7)));
        check("page=18446744073709551615&per_page=100", Ok((u64::MAX, 100)));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        check("page=0&per_page=0", Err(&["page must be at least 1", "per_page must be between 1 and 100"]));
        check("per_page=101", Err(&["per_page must be between 1 and 100"]));
        check("page=18446744073709551616", Err(&["page must be at most 18446744073709551615"]));
        check("per_page=18446744073709551616", Err(&["per_page must be between 1 and 100"]));
        for page in ["", "x", "-1", "%2B1", "1.0"] {
            check(&format!("page={page}"), Err(&["page must be a positive integer"]));
        }
        check("page=1&page=2", Err(&["page is given more than once"]));
    }
}
