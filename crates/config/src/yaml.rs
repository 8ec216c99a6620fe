//! A YAML (or JSON) document as a small tree, each part with its place in the text.
//!
//! Built from the parser's flat events, with bounds on depth and on nodes (aliases counted as what they stand for), so
//! that a hostile file costs an error and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 10_000;
/// So many tabs are put up with: the text is read anew for each.
const TABS_AFTER_KEYS_MAX: usize = 500;
const TAB_AFTER_KEY: &str = "':' must be followed by a valid YAML whitespace";

/// Where something stands; both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map. A key that stands twice has two entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

/// What a text says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// `None` if there is nothing.
    pub root: Option<Node>,
    /// Where the text goes on after its first document, which is all that is read.
    pub unread: Option<Place>,
}

/// The text is no YAML, or more of it than a settings file can need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub place: Place,
    pub what: String,
}

/// Reads the first document of `text`.
pub(crate) fn parse(text: &str) -> Result<Document, YamlError> {
    if let Some(place) = leading_tab(text) {
        return Err(YamlError { place, what: "a tab where only spaces may stand".to_string() });
    }
    let mut text = Cow::Borrowed(text);
    for _ in 0..TABS_AFTER_KEYS_MAX {
        match parse_plain(&text) {
            Err(error) if error.what == TAB_AFTER_KEY => match without_tabs_before(&text, error.place) {
                Some(better) => text = Cow::Owned(better),
                None => return Err(error),
            },
            result => return result,
        }
    }
    parse_plain(&text)
}

/// The first tab in front of what the text begins with. The parser would take it for indentation, and the next line for
/// the end of the document.
fn leading_tab(text: &str) -> Option<Place> {
    for (above, line) in text.lines().enumerate() {
        let content = line.trim_start_matches([' ', '\t']);
        if let Some(tab) = line[..line.len() - content.len()].find('\t') {
            return Some(Place { line: above + 1, column: tab + 1 });
        }
        if !(content.is_empty() || content.starts_with(['#', '%']) || line.trim_end() == "---") {
            return None;
        }
    }
    None
}

/// YAML lets a tab stand between a key and its value; the parser does not.
fn without_tabs_before(text: &str, place: Place) -> Option<String> {
    let line_start: usize = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
    let value = line_start + text[line_start..].char_indices().nth(place.column - 1)?.0;
    let key = text[..value].trim_end_matches([' ', '\t']);
    if !text[key.len()..value].contains('\t') {
        return None;
    }
    Some(format!("{key}{:width$}{}", "", &text[value..], width = value - key.len()))
}

fn parse_plain(text: &str) -> Result<Document, YamlError> {
    let mut builder = Builder::default();
    let mut events = Parser::new_from_str(text);
    for event in events.by_ref() {
        let (event, span) = event.map_err(|e| fault(text, &e))?;
        let place = place(&span.start);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let content = match (style, text.as_ref()) {
                    (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Content::Null,
                    _ => Content::Scalar(text.into_owned()),
                };
                builder.finish(Node { place, content }, anchor)?;
            }
            Event::SequenceStart(anchor, _) => builder.open(place, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(anchor, _) => builder.open(place, anchor, Content::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => builder.alias(place, anchor)?,
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    let unread = match events.next() {
        None | Some(Ok((Event::StreamEnd, _))) => None,
        Some(Ok((_, span))) => Some(place(&span.start)),
        Some(Err(error)) => Some(place(error.marker())),
    };
    Ok(Document { root: builder.root, unread })
}

/// An error of the parser, at its place. Of a tab among the spaces in front of a line that could go on with what stands
/// above, the parser gives the place where that begins.
fn fault(text: &str, error: &ScanError) -> YamlError {
    const TAB_AFTER_VALUE: &str = "while scanning a plain scalar, found a tab";
    let what = error.info();
    let mut place = place(error.marker());
    if what == TAB_AFTER_VALUE {
        let later = text.lines().enumerate().skip(place.line);
        let mut tabs = later.filter_map(|(above, line)| {
            let spaces = line.find(|c| c != ' ')?;
            line[spaces..].starts_with('\t').then_some(Place { line: above + 1, column: spaces + 1 })
        });
        place = tabs.next().unwrap_or(place);
    }
    YamlError { place, what: what.to_string() }
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// A list or map whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Place)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn open(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), YamlError> {
        if self.open.len() == DEPTH_MAX {
            return Err(YamlError { place, what: format!("nested more than {DEPTH_MAX} deep") });
        }
        self.open.push(Open { node: Node { place, content }, anchor, key: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let open = self.open.pop().expect("the parser pairs starts and ends");
        self.finish(open.node, open.anchor)
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), YamlError> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(YamlError { place, what: "an alias inside what it stands for".to_string() });
        };
        let (mut node, size) = (node.clone(), *size);
        node.place = place;
        self.count(place, size)?;
        self.finish(node, 0)
    }

    fn count(&mut self, place: Place, nodes: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        match self.nodes > NODES_MAX {
            true => Err(YamlError { place, what: format!("more than {NODES_MAX} values") }),
            false => Ok(()),
        }
    }

    /// Hangs a whole node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        self.count(node.place, 1)?;
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.content, parent.key.take()) {
            (Content::List(list), _) => list.push(node),
            (Content::Map(map), Some((key, place))) if key == "<<" => merge(map, place, node)?,
            (Content::Map(map), Some((key, place))) => map.push(Entry { key, place, value: node }),
            (Content::Map(_), None) => match node.content {
                Content::Scalar(key) => parent.key = Some((key, node.place)),
                _ => return Err(YamlError { place: node.place, what: "a key must be text".to_string() }),
            },
            (Content::Null | Content::Scalar(_), _) => unreachable!("only lists and maps are opened"),
        }
        Ok(())
    }
}

/// `<<: *other`: the entries of other maps; they stand first, so that the map's own come later and count.
fn merge(map: &mut Vec<Entry>, place: Place, node: Node) -> Result<(), YamlError> {
    let sources = match node.content {
        Content::List(list) => list,
        _ => vec![node],
    };
    for source in sources {
        let Content::Map(entries) = source.content else {
            return Err(YamlError { place, what: "`<<` takes maps only".to_string() });
        };
        let new = entries.into_iter().filter(|entry| !map.iter().any(|own| own.key == entry.key));
        let merged: Vec<Entry> = new.collect();
        map.splice(0..0, merged);
    }
    Ok(())
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Null | Content::Scalar(_) => 0,
        Content::List(list) => list.iter().map(size).sum(),
        Content::Map(map) => map.iter().map(|entry| size(&entry.value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(node: &Node) -> String {
        match &node.content {
            Content::Null => "null".to_string(),
            Content::Scalar(text) => format!("{text:?}"),
            Content::List(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" ")),
            Content::Map(map) => {
                let entries: Vec<_> = map.iter().map(|entry| format!("{}={}", entry.key, show(&entry.value))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    fn read(text: &str) -> String {
        parse(text).unwrap().root.as_ref().map(show).unwrap_or_default()
    }

    #[test]
    fn documents_become_trees() {
        assert_eq!(read(""), "");
        assert_eq!(read("# only a comment\n"), "");
        assert_eq!(read("a: 1\nb: [x, 'y']\nc: {d: ~}\n"), r#"{a="1" b=["x" "y"] c={d=null}}"#);
        assert_eq!(read(r#"{"a": "null", "b": true}"#), r#"{a="null" b="true"}"#);
        assert_eq!(read("---\na: 1\n---\nb: 2\n"), r#"{a="1"}"#);
        assert_eq!(read("a: &x {k: 1}\nb: *x\n"), r#"{a={k="1"} b={k="1"}}"#);
        assert_eq!(read("k: own\n<<: {k: 1, m: 2}\n"), r#"{m="2" k="own"}"#);
    }

    #[test]
    fn parts_know_their_places() {
        let root = parse("a: 1\nlong:\n  b: 2\n").unwrap().root.unwrap();
        let Content::Map(map) = root.content else { panic!("a map") };
        assert_eq!(map[1].place, Place { line: 2, column: 1 });
        let Content::Map(inner) = &map[1].value.content else { panic!("a map") };
        assert_eq!(inner[0].value.place, Place { line: 3, column: 6 });
    }

    #[test]
    fn errors_name_the_line_that_is_wrong() {
        let line = |text: &str| parse(text).unwrap_err().place.line;
        assert_eq!(line("name: a\n\tdata-dir: b\nlog-level: info\n"), 2);
        assert_eq!(line("name: a\n\n# why\n\tdata-dir: b\n"), 4);
        assert_eq!(line("name: a\n\n  # why\n  \tdata-dir: b\n"), 4);
        assert_eq!(line("name: a\ndata-dir:\n\tx: b\n"), 3);
        assert_eq!(line("name: a\n\n  b: a\n"), 3);
    }

    #[test]
    fn what_follows_the_first_document_is_known_and_not_read() {
        let unread = |text: &str| parse(text).unwrap().unread.map(|place| place.line);
        assert_eq!(unread("a: 1\n---\nb: 2\n"), Some(2));
        assert_eq!(unread("  a: 1\nb: 2\n"), Some(2));
        for whole in ["", "---\n", "a: 1\n...\n# end\n", "---\na: 1\n\n", "{a: 1}"] {
            assert_eq!(unread(whole), None, "{whole:?}");
        }
    }

    #[test]
    fn a_tab_may_stand_between_key_and_value() {
        assert_eq!(read("a:\t1\nb: \t 2\nc:\t\t\"3\"\n"), r#"{a="1" b="2" c="3"}"#);
        assert_eq!(read("{a:\t1, b:\tx}"), r#"{a="1" b="x"}"#);
        assert_eq!(read("# \u{e9}\n\u{e9}:\tx\n"), "{\u{e9}=\"x\"}");
        assert!(parse("a: b:\tc\n").is_err());
        assert!(parse(&"a:\tb\n".repeat(TABS_AFTER_KEYS_MAX + 1)).is_err());
        assert_eq!(parse("a:\t1\nb:\t[\n").unwrap_err().place.line, 3);
    }

    #[test]
    fn a_tab_may_not_stand_first() {
        let place = |text: &str| parse(text).unwrap_err().place;
        assert_eq!(place("\ta: 1\nb: 2\n"), Place { line: 1, column: 1 });
        assert_eq!(place("# why\n\n---\n  \ta: 1\n"), Place { line: 4, column: 3 });
        assert_eq!(place("\t\na: 1\n"), Place { line: 1, column: 1 });
        assert_eq!(read("a: 1\n\t\nb: 2\n"), r#"{a="1" b="2"}"#);
    }

    #[test]
    fn bombs_are_errors() {
        assert!(parse(&"[".repeat(17)).unwrap_err().what.contains("nested"));
        assert!(parse(&"[".repeat(100_000)).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
        for n in 1..12 {
            let m = n - 1;
            laughs += &format!("a{n}: &a{n} [*a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}]\n");
        }
        assert!(parse(&laughs).unwrap_err().what.contains("10000 values"));
        assert!(parse("a: &a [*a]\n").is_err());
        assert!(parse("a: b: c\n\t- d").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ a:\\-\\[\\]{}&*<'\"\\n\\t|>#,!%?~]{0,60}") {
            let _ = parse(&text);
        }
    }
}
