//! What a member tells at `/metrics`, read back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::http;

/// All families of one scrape, by name.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
    /// As it came.
    pub text: String,
}

/// What is told under one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    pub kind: String,
    /// By suffix (`_bucket`, say) and labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

pub type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Asks a member.
    ///
    /// # Errors
    /// If it does not answer, or with something else.
    pub async fn scrape(address: SocketAddr) -> Result<Exposition> {
        let answer = http::get(address, "/metrics").await?;
        ensure!(answer.status == 200, "{answer:?}");
        let kind = answer.header("content-type").unwrap_or_default();
        ensure!(kind.starts_with("text/plain; version=0.0.4; charset=utf-8"), "{kind}");
        Exposition::parse(answer.body)
    }

    /// # Errors
    /// If it is not Prometheus' text format 0.0.4.
    pub fn parse(text: String) -> Result<Exposition> {
        let mut families = BTreeMap::<String, Family>::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| line.to_owned())?;
                let family = Family { kind: kind.to_owned(), ..Family::default() };
                ensure!(families.insert(name.to_owned(), family).is_none(), "{name} stands twice");
            } else if !line.starts_with('#') && !line.is_empty() {
                let sample = read_sample(line).with_context(|| format!("not a sample: {line}"))?;
                let (name, suffix) = split_suffix(&families, sample.name);
                let family = families.get_mut(name).with_context(|| format!("{name} has no type"))?;
                let key = (suffix.to_owned(), sample.labels);
                ensure!(family.samples.insert(key, sample.value).is_none(), "it stands twice: {line}");
            }
        }
        Ok(Exposition { families, text })
    }

    /// The value of a sample, its labels in any order; `None` if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (name, suffix) = split_suffix(&self.families, name);
        self.families.get(name)?.samples.get(&(suffix.to_owned(), labels)).copied()
    }
}

impl Family {
    /// The names of labels, sample by sample, each set once; without `le`.
    pub fn label_names(&self) -> BTreeSet<Vec<&str>> {
        let names =
            |labels| -> Vec<&str> { Labels::keys(labels).map(String::as_str).filter(|name| *name != "le").collect() };
        self.samples.keys().map(|(_, labels)| names(labels)).collect()
    }

    /// The edges of a histogram's buckets as they are written.
    pub fn edges(&self) -> BTreeSet<&str> {
        self.samples.keys().filter_map(|(_, labels)| labels.get("le")).map(String::as_str).collect()
    }
}

/// A histogram's samples are called as the family and something more.
fn split_suffix<'a>(families: &BTreeMap<String, Family>, name: &'a str) -> (&'a str, &'a str) {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(family) = name.strip_suffix(suffix)
            && families.get(family).is_some_and(|family| matches!(&*family.kind, "histogram" | "summary"))
        {
            return (family, &name[family.len()..]);
        }
    }
    (name, "")
}

struct Sample<'a> {
    name: &'a str,
    labels: Labels,
    value: f64,
}

fn read_sample(line: &str) -> Option<Sample<'_>> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    let Some((name, labels)) = head.split_once('{') else {
        return Some(Sample { name: head, labels: Labels::new(), value });
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (at, '"') => break at,
                (_, other) => text.push(other),
            }
        };
        labels.insert(label.to_owned(), text);
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some(Sample { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a_seconds x\n# TYPE a_seconds histogram\na_seconds_bucket{to=\"a\\\"b,\",le=\"0.1\"} 1\n\
                    a_seconds_sum{to=\"a\\\"b,\"} 1e-05\n# TYPE b_total gauge\nb_total 2\n";
        let read = Exposition::parse(text.to_owned()).unwrap();
        assert_eq!(read.value("a_seconds_bucket", &[("le", "0.1"), ("to", "a\"b,")]), Some(1.0));
        assert_eq!(read.value("a_seconds_sum", &[("to", "a\"b,")]), Some(1e-5));
        assert_eq!(read.value("b_total", &[]), Some(2.0));
        assert_eq!(read.families["a_seconds"].edges(), BTreeSet::from(["0.1"]));
        assert_eq!(read.families["a_seconds"].label_names(), BTreeSet::from([vec!["to"]]));
        assert!(Exposition::parse("b_total 2\n".to_owned()).is_err());
    }
}
