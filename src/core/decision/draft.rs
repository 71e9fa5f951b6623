//! What clients send, and its checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Body, Decision, Details, TestResults};
use crate::types::limits::{
    DATA_DEPTH_MAX, DETAIL_LEN_MAX, DETAILS_MAX, LIST_ITEM_LEN_MAX, LIST_ITEMS_MAX, PARENTS_MAX,
    ROLES_MAX, TAG_LEN_MAX, TAGS_MAX,
};
use crate::types::record::DecisionKind;
use crate::types::ucxl::{DecisionAddress, Temporal, Ucxl};
use crate::types::{Bytes, ContentHash, Wall};

/// A decision as a client sends it. Which fields it may have depends on its type.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    /// What it is about; `generic` if not given.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DecisionKind>,
    /// Where it stands, in any spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// In place of an address: who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// In place of an address: in which role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// In place of an address: for which project. The task and this node's name complete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Roles that can read it, besides the role in its address and those above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<String>,
    /// What was to be done; the task in the address if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What was decided; plain text or Markdown.
    pub decision: String,
    /// Whether it worked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it follows from: contents by hash or address, or decisions by address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// What it takes the place of, named likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<String>,
    /// Code: files that were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_modified: Option<Vec<String>>,
    /// Code: lines that were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines_changed: Option<u64>,
    /// Code: its language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Code: what it depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    /// Code, test: how tests went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_results: Option<TestResults>,
    /// Architecture: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// Architecture: what else was thought of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<Vec<String>>,
    /// Architecture: what follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implications: Option<Vec<String>>,
    /// Architecture: what is to be done next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_steps: Option<Vec<String>>,
    /// Test: what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<String>>,
    /// Test: share of the code that they reach, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(maximum = 100))]
    pub coverage_percent: Option<u8>,
    /// System: of which part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// System: what was done to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// System: names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<BTreeMap<String, String>>,
    /// Generic: any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// A field of a draft that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldProblem {
    /// Which.
    pub field: &'static str,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

fn problem(field: &'static str, reason: impl Into<String>) -> FieldProblem {
    FieldProblem { field, reason: reason.into() }
}

/// What a draft refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A content.
    Content(ContentHash),
    /// A version of a decision; the latest unless it says otherwise.
    Decision(DecisionAddress, Temporal),
}

fn reference(field: &'static str, text: &str) -> Result<Reference, FieldProblem> {
    if let Ok(hash) = text.parse() {
        return Ok(Reference::Content(hash));
    }
    match text.parse::<Ucxl>() {
        Ok(Ucxl::Content(hash)) => Ok(Reference::Content(hash)),
        Ok(Ucxl::Decision(address, at)) => {
            Ok(Reference::Decision(address, at.unwrap_or(Temporal::Latest)))
        }
        Ok(_) => {
            let shown: String = text.chars().take(80).collect();
            Err(problem(field, format!("{shown:?} names neither one decision nor a content")))
        }
        Err(error) => Err(problem(field, error.to_string())),
    }
}

fn bounded(field: &'static str, count: usize, most: usize, what: &str) -> Result<(), FieldProblem> {
    if count <= most {
        Ok(())
    } else {
        Err(problem(field, format!("{count} {what}, {most} are allowed")))
    }
}

fn check_list(field: &'static str, items: &[String]) -> Result<(), FieldProblem> {
    bounded(field, items.len(), LIST_ITEMS_MAX, "entries")?;
    items
        .iter()
        .try_for_each(|item| bounded(field, item.len(), LIST_ITEM_LEN_MAX, "bytes in an entry"))
}

/// How deeply arrays and objects stand in each other.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl Draft {
    /// The type.
    pub fn kind(&self) -> DecisionKind {
        self.kind.unwrap_or(DecisionKind::Generic)
    }

    /// Where it is to stand, published through a node of this name.
    pub fn address(&self, node: &str) -> Result<DecisionAddress, FieldProblem> {
        let parts = [("agent", &self.agent), ("role", &self.role), ("project", &self.project)];
        if let Some(address) = &self.address {
            if let Some((field, _)) = parts.iter().find(|(_, part)| part.is_some()) {
                return Err(problem(field, "an address says it already; give one or the other"));
            }
            return address.parse().map_err(|error: crate::types::ucxl::UcxlError| {
                problem("address", error.to_string())
            });
        }
        let part = |(field, part): (&'static str, &Option<String>)| {
            part.clone().ok_or_else(|| {
                problem(field, "is missing: give an address, or agent, role, project and task")
            })
        };
        let [agent, role, project] = parts.map(part);
        let (agent, role, project) = (agent?, role?, project?);
        let task = part(("task", &self.task))?;
        DecisionAddress::new([&agent, &role, &project, &task, node])
            .map_err(|error| problem("address", error.to_string()))
    }

    /// The roles that it is for: the one in its address, and those that were named besides.
    pub fn readers<'a>(&'a self, address: &'a DecisionAddress) -> Vec<&'a str> {
        std::iter::once(address.role()).chain(self.readers.iter().map(String::as_str)).collect()
    }

    /// What it refers to: the parents, and last what it supersedes, if anything.
    pub fn references(&self) -> Result<(Vec<Reference>, Option<Reference>), FieldProblem> {
        bounded("parents", self.parents.len(), PARENTS_MAX, "parents")?;
        let parents = self.parents.iter().map(|text| reference("parents", text));
        let supersedes = self.supersedes.as_ref().map(|text| reference("supersedes", text));
        Ok((parents.collect::<Result<_, _>>()?, supersedes.transpose()?))
    }

    /// The first field that does not belong to its type.
    fn foreign_field(&self) -> Option<(&'static str, &'static [DecisionKind])> {
        use DecisionKind::{Architecture, Code, Generic, System, Test};
        let fields: [(&str, bool, &[DecisionKind]); 14] = [
            ("files_modified", self.files_modified.is_some(), &[Code]),
            ("lines_changed", self.lines_changed.is_some(), &[Code]),
            ("language", self.language.is_some(), &[Code]),
            ("dependencies", self.dependencies.is_some(), &[Code]),
            ("test_results", self.test_results.is_some(), &[Code, Test]),
            ("rationale", self.rationale.is_some(), &[Architecture]),
            ("alternatives", self.alternatives.is_some(), &[Architecture]),
            ("implications", self.implications.is_some(), &[Architecture]),
            ("next_steps", self.next_steps.is_some(), &[Architecture]),
            ("failures", self.failures.is_some(), &[Test]),
            ("coverage_percent", self.coverage_percent.is_some(), &[Test]),
            ("component", self.component.is_some(), &[System]),
            ("operation", self.operation.is_some(), &[System]),
            ("details", self.details.is_some(), &[System]),
        ];
        let kind = self.kind();
        if self.data.is_some() && kind != Generic {
            return Some(("data", &[Generic]));
        }
        let foreign = fields.into_iter().find(|(_, there, kinds)| *there && !kinds.contains(&kind));
        foreign.map(|(field, _, kinds)| (field, kinds))
    }

    /// Checks everything about it that can be checked without asking anybody.
    pub fn check(&self) -> Result<(), FieldProblem> {
        if let Some((field, kinds)) = self.foreign_field() {
            let of: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let reason = format!(
                "belongs to decisions of type {}, and this one is {}",
                of.join(" and "),
                self.kind().name()
            );
            return Err(problem(field, reason));
        }
        if self.decision.trim().is_empty() {
            return Err(problem("decision", "says nothing; write what was decided"));
        }
        bounded("readers", self.readers.len(), ROLES_MAX, "roles")?;
        bounded("tags", self.tags.len(), TAGS_MAX, "tags")?;
        for tag in &self.tags {
            bounded("tags", tag.len(), TAG_LEN_MAX, "bytes in a tag")?;
            if tag.is_empty() || tag.chars().any(char::is_control) {
                return Err(problem("tags", "a tag is empty or holds control characters"));
            }
        }
        let lists = [
            ("files_modified", &self.files_modified),
            ("dependencies", &self.dependencies),
            ("alternatives", &self.alternatives),
            ("implications", &self.implications),
            ("next_steps", &self.next_steps),
            ("failures", &self.failures),
        ];
        for (field, list) in lists {
            check_list(field, list.as_deref().unwrap_or_default())?;
        }
        let details = self.details.iter().flatten();
        bounded("details", details.clone().count(), DETAILS_MAX, "entries")?;
        for (name, value) in details {
            bounded("details", name.len().max(value.len()), DETAIL_LEN_MAX, "bytes in an entry")?;
        }
        if self.coverage_percent.is_some_and(|percent| percent > 100) {
            return Err(problem("coverage_percent", "expected 0 to 100"));
        }
        match self.data.as_ref().map_or(0, depth) {
            0..=DATA_DEPTH_MAX => Ok(()),
            deep => bounded("data", deep, DATA_DEPTH_MAX, "values in each other"),
        }
    }

    fn into_details(self) -> Details {
        match self.kind() {
            DecisionKind::Code => Details::Code {
                files_modified: self.files_modified.unwrap_or_default(),
                lines_changed: self.lines_changed,
                language: self.language,
                dependencies: self.dependencies.unwrap_or_default(),
                test_results: self.test_results,
            },
            DecisionKind::Architecture => Details::Architecture {
                rationale: self.rationale,
                alternatives: self.alternatives.unwrap_or_default(),
                implications: self.implications.unwrap_or_default(),
                next_steps: self.next_steps.unwrap_or_default(),
            },
            DecisionKind::Test => Details::Test {
                test_results: self.test_results,
                failures: self.failures.unwrap_or_default(),
                coverage_percent: self.coverage_percent,
            },
            DecisionKind::System => Details::System {
                component: self.component,
                operation: self.operation,
                details: self.details.unwrap_or_default(),
            },
            DecisionKind::Generic => Details::Generic { data: self.data },
        }
    }

    /// The decision that it stands for, if everything about it is in order.
    pub fn compose(
        mut self,
        address: DecisionAddress,
        parents: Vec<ContentHash>,
        supersedes: Option<ContentHash>,
        at: Wall,
        salt: [u8; 16],
    ) -> Result<Decision, FieldProblem> {
        self.check()?;
        let body = Body {
            task: self.task.take().unwrap_or_else(|| address.task().to_owned()),
            decision: std::mem::take(&mut self.decision),
            success: self.success,
            tags: std::mem::take(&mut self.tags),
            parents,
            supersedes,
            details: self.into_details(),
        };
        Ok(Decision { address, at, salt: Bytes(salt.to_vec()), body })
    }
}
