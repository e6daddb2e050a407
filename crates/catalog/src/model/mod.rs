//! The rules of the catalogue, without IO: products with their options, and the parameters of the product list.

mod listing;
mod product;

pub use listing::{ProductFilter, ProductPosition, Sort};
pub use product::{DEFAULT_OPTION, Invalid, MAX_OPTIONS, MAX_PRICE, NewOption, Product, ProductChange, ProductOption, SaleState};
