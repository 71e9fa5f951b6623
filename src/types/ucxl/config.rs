//! Keys of configuration values.

use crate::types::limits::HEAD_KEY_MAX;

/// What stands before the key of a configuration value.
pub const CONFIG_PREFIX: &str = "ucxl://bzzz.cluster.config/";

/// The categories of the installation plan; every key begins with one of them.
pub const CONFIG_CATEGORIES: [&str; 6] = [
    "network_topology",
    "resource_allocation",
    "ai_models",
    "user_projects",
    "cost_management",
    "monitoring",
];

/// Checks a key below `ucxl://bzzz.cluster.config/` and returns its category.
pub fn check_config_key(key: &str) -> Result<&'static str, String> {
    if key.len() > HEAD_KEY_MAX {
        return Err(format!("the key is {} bytes long, {HEAD_KEY_MAX} are allowed", key.len()));
    }
    let segment_ok = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if let Some(bad) = key.split('/').find(|segment| !segment_ok(segment)) {
        return Err(format!(
            "the segment {bad:?} of the key may hold letters, digits, '.', '_' and '-' only"
        ));
    }
    let first = key.split('/').next().unwrap_or_default();
    CONFIG_CATEGORIES
        .into_iter()
        .find(|category| *category == first)
        .ok_or_else(|| format!("the key must begin with one of {}", CONFIG_CATEGORIES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_within_the_categories() {
        assert_eq!(check_config_key("ai_models/llama"), Ok("ai_models"));
        for bad in ["", "other", "ai_models//x", "ai_models/..", "ai_models/a b", "/ai_models"] {
            assert!(check_config_key(bad).is_err(), "{bad}");
        }
        assert!(check_config_key(&format!("ai_models/{}", "x".repeat(300))).is_err());
    }
}
