//! Features over Redis, on a real server. Correct while Redis answers, and correct but slower while it is down, emptied or late.

mod cache;
mod fenced;
mod limit;
mod lock;
mod outage;
mod sessions;
mod support;
