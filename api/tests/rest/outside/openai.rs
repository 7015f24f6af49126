//! An OpenAI-compatible endpoint for chats.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

pub(crate) const KEY: &str = "sk-test";
pub(crate) const MODEL: &str = "test-model";
pub(crate) const DIAGNOSIS: &str = "The target is overloaded. Raise its capacity or the timeout.";

#[derive(Clone, Default)]
pub(crate) struct OpenAi(Arc<Mutex<Vec<Value>>>);

impl OpenAi {
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/v1/chat/completions", post(chat)).with_state(self.clone())
    }

    /// What it was asked.
    pub(crate) fn chats(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
}

async fn chat(
    State(OpenAi(chats)): State<OpenAi>,
    headers: HeaderMap,
    axum::Json(chat): axum::Json<Value>,
) -> Response {
    if headers["authorization"] != format!("Bearer {KEY}") {
        let error = json!({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}});
        return (StatusCode::UNAUTHORIZED, axum::Json(error)).into_response();
    }
    if chat["model"] != MODEL {
        let error = json!({"error": {"message": "The model does not exist", "code": "model_not_found"}});
        return (StatusCode::NOT_FOUND, axum::Json(error)).into_response();
    }
    chats.lock().unwrap().push(chat);
    let message = json!({"role": "assistant", "content": format!("  {DIAGNOSIS}\n"), "refusal": null});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    axum::Json(json!({"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]})).into_response()
}
