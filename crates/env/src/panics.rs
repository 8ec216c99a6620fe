//! Panics of a library that are to become errors; any other ends the process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `op`; a panic in it becomes its text. What `op` was working on is not to be used any more then.
///
/// # Errors
/// What the panic said.
pub fn catch_panic<T>(op: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(op));
    IS_CAUGHT.set(before);
    result.map_err(|panic| {
        let owned = panic.downcast_ref::<String>().map(String::as_str);
        owned.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing").to_owned()
    })
}

/// For the panic hook: whether a panic on this thread would be caught by [`catch_panic`], whose caller tells of it.
pub fn is_panic_caught() -> bool {
    IS_CAUGHT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inside_are_panics_caught() {
        let (inside, text) = (catch_panic(is_panic_caught), catch_panic(|| panic!("no {}", "use")));
        assert_eq!(inside, Ok(true));
        assert_eq!(text, Err::<(), _>("no use".to_owned()));
        assert!(!is_panic_caught());
    }
}
