//! `/api/openapi.json`: what the API is, for programs.

use warp::http::header;
use warp::reply::Response;

use crate::http::answer::{Answer, set};
use crate::http::app::Api;
use crate::http::call::Call;
use crate::http::route::{Reply, Route, always};
use crate::http::{media, schema};

/// The routes.
pub const ROUTES: &[Route] =
    &[Route::get("/api/openapi.json", "openapi", "This document", always!(show))
        .permission("cluster:read")
        .replies(&[Reply::other(
            200,
            media::JSON,
            schema::anything,
            "The OpenAPI 3.1 document of this API",
        )])
        .tagged()];

async fn show(api: &Api, _: &mut Call) -> Answer {
    let document = (api.document)();
    let mut response = Response::new(document.into());
    set(&mut response, header::CONTENT_TYPE, media::JSON);
    let tag = &blake3::hash(document).to_hex()[..16];
    set(&mut response, header::ETAG, &format!("\"{tag}\""));
    Ok(response)
}
