//! The table: etcd, Quorate, and the ratio.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::scenario::{Figure, Size};

/// One line of the table.
struct Line {
    row: &'static str,
    metric: &'static str,
    etcd: f64,
    quorate: f64,
}

pub(crate) struct Report(Vec<Line>);

impl Report {
    /// The medians of all rounds, in the order in which the figures first came up.
    pub(crate) fn new(etcd: &[Figure], quorate: &[Figure]) -> Report {
        let mut lines = Vec::<Line>::new();
        for Figure { row, metric, .. } in etcd {
            if lines.iter().any(|line| (line.row, line.metric) == (*row, *metric)) {
                continue;
            }
            let (etcd, quorate) = (median(etcd, row, metric), median(quorate, row, metric));
            lines.push(Line { row, metric, etcd, quorate });
        }
        Report(lines)
    }
}

fn median(figures: &[Figure], row: &str, metric: &str) -> f64 {
    let of_line = figures.iter().filter(|figure| figure.row == row && figure.metric == metric);
    let mut values = of_line.map(|figure| figure.value).collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| workload | figure | etcd | Quorate | Quorate / etcd |")?;
        writeln!(f, "|---|---|---:|---:|---:|")?;
        for line in &self.0 {
            let (etcd, quorate) = (number(line.etcd), number(line.quorate));
            let ratio = line.quorate / line.etcd;
            let decimals = if ratio < 0.1 { 4 } else { 2 };
            writeln!(f, "| {} | {} | {etcd} | {quorate} | {ratio:.decimals$} |", line.row, line.metric)?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What the figures were taken on.
/// The report itself may have changed: by the run before.
const COMMIT: &str =
    "printf '%s%s' $(git describe --always) $(git diff --quiet HEAD -- ':!bench/RESULTS.md' || echo -dirty)";

pub(crate) struct Machine {
    lines: Vec<String>,
}

impl Machine {
    pub(crate) fn look(etcd: &Path, quorate: &Path, size: Size, rounds: usize) -> anyhow::Result<Machine> {
        let shell = |command: &str| -> anyhow::Result<String> {
            let output = Command::new("sh").args(["-c", command]).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let cpu = shell("grep -m1 'model name' /proc/cpuinfo | cut -d: -f2")?;
        let lines = vec![
            format!("- Date: {}; commit {}", shell("date -u +%F")?, shell(COMMIT)?),
            format!(
                "- Machine: {}x {}, {} memory, {}",
                shell("nproc")?,
                cpu,
                shell("free -h | awk '/Mem/ {print $2}'")?,
                shell("uname -sr")?
            ),
            format!("- etcd: {}", version(etcd)?),
            format!("- Quorate: {}", version(quorate)?),
            format!(
                "- {} rounds in turns, {} s a workload, {} keys in the large stores; medians",
                rounds, size.seconds, size.keys
            ),
        ];
        Ok(Machine { lines })
    }
}

/// All that `program --version` tells, in one line.
fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>().join("; "))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Which table a part's figures go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    OneMember,
    ThreeMembers,
}

impl Section {
    const ALL: [Section; 2] = [Section::OneMember, Section::ThreeMembers];

    pub(crate) fn of(part: &str) -> Section {
        match part {
            "cluster" | "failover" | "absence" => Section::ThreeMembers,
            _ => Section::OneMember,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Section::OneMember => "## One member\n",
            Section::ThreeMembers => "## Three members\n",
        }
    }
}

/// The page of results. A run replaces the sections that it measured and leaves the others.
#[derive(Debug, Default)]
pub(crate) struct Page(BTreeMap<Section, String>);

impl Page {
    /// The page as it is, empty if there is none.
    #[allow(clippy::disallowed_methods, reason = "a report is not part of a database")]
    pub(crate) fn read(path: &Path) -> Page {
        Page::parse(&std::fs::read_to_string(path).unwrap_or_default())
    }

    fn parse(text: &str) -> Page {
        let body = |section: Section| {
            let (_, after) = text.split_once(section.heading())?;
            let body = after.split("\n## ").next().unwrap_or(after);
            Some((section, body.trim().to_owned()))
        };
        Page(Section::ALL.into_iter().filter_map(body).collect())
    }

    pub(crate) fn set(&mut self, section: Section, body: String) {
        self.0.insert(section, body);
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Quorate and etcd, side by side\n")?;
        writeln!(
            f,
            "Made by `bench/compare`. Server and load generator share the machine, so throughput is what both leave each other;"
        )?;
        writeln!(
            f,
            "the server's own CPU time per operation is the figure that holds, of several members their sum. A ratio below 1 means"
        )?;
        writeln!(
            f,
            "that Quorate needs less (for op/s and /s: above 1 means that it does more). Quorate's program is the one that ships,"
        )?;
        writeln!(f, "built by a profile of this kind of load (`ci/guided-flags`); etcd's is Debian's.")?;
        for (section, body) in &self.0 {
            write!(f, "\n{}\n{}\n", section.heading(), body.trim())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_medians_and_ratios_in_order() {
        let figure = |row, value| Figure { row, metric: "us", value };
        let etcd = [figure("b", 10.0), figure("a", 1.0), figure("b", 30.0), figure("b", 20.0)];
        let quorate = [figure("a", 2.0), figure("b", 5.0)];
        let table = Report::new(&etcd, &quorate).to_string();
        let lines = table.lines().skip(2).collect::<Vec<_>>();
        assert_eq!(lines, ["| b | us | 20.0 | 5.00 | 0.25 |", "| a | us | 1.00 | 2.00 | 2.00 |"]);
    }

    #[test]
    fn a_section_that_was_not_measured_stays() {
        let mut page = Page::default();
        page.set(Section::OneMember, "- here\n\n| a |\n".to_owned());
        let mut again = Page::parse(&page.to_string());
        again.set(Section::ThreeMembers, "| b |".to_owned());
        let text = again.to_string();
        assert!(text.contains("## One member\n\n- here\n\n| a |\n\n## Three members\n\n| b |\n"), "{text}");
        assert_eq!(Page::parse(&text).to_string(), text);
    }
}
