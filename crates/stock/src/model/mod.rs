//! The rules of stock, without IO: what a quantity may become, what an order may hold, and what a repeated step is told.

mod book;
mod item;
mod reservation;
#[cfg(test)]
mod tests;

pub use book::{Book, Committed, NotLoaded};
#[cfg(test)]
pub use item::MovementKind;
pub use item::{Item, MAX_ON_HAND, Movement};
pub use reservation::{Line, LineState, Reservation, State, Step};
