//! Panics of a library that are to become errors; any other ends the process.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// What the panic said that is on its way to who catches it.
    static UNDER_WAY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What becomes of a panic, for the panic hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PanicFate {
    /// [`catch_panic`] takes it, whose caller tells of it.
    Caught,
    /// Nobody takes it.
    Uncaught,
    /// It would be caught, but it comes from a destructor that runs because of another panic, which said this: the process
    /// aborts once the hook returns.
    Doubled(String),
}

/// Runs `op`; a panic in it becomes its text. What `op` was working on is not to be used any more then.
///
/// # Errors
/// What the panic said.
pub fn catch_panic<T>(op: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(op));
    IS_CAUGHT.set(before);
    UNDER_WAY.take();
    result.map_err(|panic| panic_text(&*panic).unwrap_or("it said nothing").to_owned())
}

/// What becomes of the panic that the hook is called with. To be asked once for each panic, and by the hook alone.
pub fn panic_fate(info: &PanicHookInfo<'_>) -> PanicFate {
    if !IS_CAUGHT.get() {
        return PanicFate::Uncaught;
    }
    match UNDER_WAY.replace(Some(hook_text(info))) {
        Some(first) => PanicFate::Doubled(first),
        None => PanicFate::Caught,
    }
}

/// What the panic says, and where it was.
pub fn hook_text(info: &PanicHookInfo<'_>) -> String {
    let text = panic_text(info.payload()).unwrap_or("a panic without a text");
    info.location().map_or_else(|| text.to_owned(), |at| format!("{text} ({at})"))
}

fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics while it is dropped.
    struct Unlucky;

    impl Drop for Unlucky {
        fn drop(&mut self) {
            // If it got out of here the process would end.
            assert!(catch_unwind(|| panic!("second")).is_err());
        }
    }

    /// All in one test, as there is one hook.
    #[test]
    fn the_hook_learns_what_becomes_of_a_panic() {
        static SEEN: std::sync::Mutex<Vec<PanicFate>> = std::sync::Mutex::new(Vec::new());
        let own = std::thread::current().id();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == own {
                SEEN.lock().unwrap().push(panic_fate(info));
            } else {
                usual(info);
            }
        }));
        let seen = || std::mem::take(&mut *SEEN.lock().unwrap());

        assert_eq!(catch_panic(|| panic!("no {}", "use")), Err::<(), _>("no use".to_owned()));
        assert_eq!(seen(), [PanicFate::Caught]);
        assert_eq!(catch_panic(|| 1), Ok(1));
        assert_eq!(catch_panic(|| panic!("again")), Err::<(), _>("again".to_owned()));
        assert_eq!(seen(), [PanicFate::Caught], "the one before is over");
        assert!(catch_unwind(|| panic!("outside")).is_err());
        assert_eq!(seen(), [PanicFate::Uncaught]);
        let doubled = catch_panic(|| {
            let _unlucky = Unlucky;
            panic!("first");
        });
        assert_eq!(doubled, Err::<(), _>("first".to_owned()));
        let [PanicFate::Caught, PanicFate::Doubled(first)] = &seen()[..] else { panic!("not doubled") };
        assert!(first.starts_with("first (") && first.contains("panics.rs"), "{first}");
    }
}
