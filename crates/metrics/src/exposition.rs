//! Prometheus' text format 0.0.4.
//!
//! Source: "Exposition formats" of the Prometheus documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::histogram::{Buckets, Reading};
use crate::number;

/// What is told under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// One sentence, with its full stop.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(Buckets),
}

/// What a scrape gets, by name.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, String>,
}

/// Labels and their values, in the order in which they are to stand.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Exposition {
    /// Adds a sample of a counter or gauge without labels.
    pub fn value(&mut self, family: &Family, value: f64) {
        self.labelled(family, &[], value);
    }

    /// Adds a sample of a counter or gauge. Those of one family have different labels.
    pub fn labelled(&mut self, family: &Family, labels: Labels<'_>, value: f64) {
        debug_assert!(!matches!(family.kind, Kind::Histogram(_)), "{} is told by its buckets", family.name);
        sample(self.family(family), family.name, "", labels, None, value);
    }

    /// Adds a histogram.
    pub fn histogram(&mut self, family: &Family, labels: Labels<'_>, reading: &Reading) {
        debug_assert_eq!(family.kind, Kind::Histogram(reading.buckets), "the buckets of {}", family.name);
        let out = self.family(family);
        let mut cumulated = 0;
        let edges = reading.buckets.told().chain([f64::INFINITY]);
        for (edge, count) in edges.zip(&reading.counts) {
            cumulated += count;
            sample(out, family.name, "_bucket", labels, Some(edge), cumulated as f64);
        }
        sample(out, family.name, "_sum", labels, None, reading.buckets.told_as(reading.sum));
        sample(out, family.name, "_count", labels, None, cumulated as f64);
    }

    /// All of it, in the order of names.
    pub fn finish(self) -> String {
        let mut out = String::with_capacity(self.families.values().map(String::len).sum());
        self.families.into_values().for_each(|family| out.push_str(&family));
        out
    }

    /// The text of a family, begun with its head.
    fn family(&mut self, family: &Family) -> &mut String {
        self.families.entry(family.name).or_insert_with(|| {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let Family { name, help, .. } = family;
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
        })
    }
}

fn sample(out: &mut String, name: &str, suffix: &str, labels: Labels<'_>, edge: Option<f64>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for (label, value) in labels {
        write!(out, "{separator}{label}=\"").expect("writing to a string does not fail");
        push_escaped(out, value);
        out.push('"');
        separator = ',';
    }
    if let Some(edge) = edge {
        write!(out, "{separator}le=\"").expect("writing to a string does not fail");
        number::push(out, edge);
        out.push('"');
        separator = ',';
    }
    out.push_str(if separator == ',' { "} " } else { " " });
    number::push(out, value);
    out.push('\n');
}

fn push_escaped(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::histogram::Histogram;

    const BUCKETS: Buckets = Buckets::seconds(Duration::from_millis(1), 2);
    const LATER: Family = Family { name: "b_seconds", kind: Kind::Histogram(BUCKETS), help: "How long." };
    const EARLIER: Family = Family { name: "a_total", kind: Kind::Counter, help: "How often." };

    #[test]
    fn families_come_in_order_with_their_heads() {
        let histogram = Histogram::new(BUCKETS);
        histogram.observe(Duration::from_micros(1500));
        histogram.observe(Duration::from_secs(1));
        let mut exposition = Exposition::default();
        exposition.histogram(&LATER, &[("to", "b")], &histogram.read());
        exposition.labelled(&EARLIER, &[("x", "1"), ("y", "a\"b\\c\nd")], 2e6);
        exposition.labelled(&EARLIER, &[("x", "2"), ("y", "")], 0.0);
        let expected = "\
# HELP a_total How often.
# TYPE a_total counter
a_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 2e+06
a_total{x=\"2\",y=\"\"} 0
# HELP b_seconds How long.
# TYPE b_seconds histogram
b_seconds_bucket{to=\"b\",le=\"0.001\"} 0
b_seconds_bucket{to=\"b\",le=\"0.002\"} 1
b_seconds_bucket{to=\"b\",le=\"+Inf\"} 2
b_seconds_sum{to=\"b\"} 1.0015
b_seconds_count{to=\"b\"} 2
";
        assert_eq!(exposition.finish(), expected);
    }

    #[test]
    fn without_labels_there_are_no_braces() {
        let mut exposition = Exposition::default();
        exposition.value(&EARLIER, 1.0);
        assert!(exposition.finish().ends_with("counter\na_total 1\n"));
    }
}
