//! All problems that a client can receive, in one table: the stable slug of `type`, the number, the HTTP status and the title.
//!
//! Number ranges: 1000 general, 2000 payment and wallet, 3000 accounts, 4000 stores, catalogue and stock, 5000 orders, 6000 coupons, 7000
//! time sales, 8000 gateway. `docs/errors.md` is generated from this table.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

macro_rules! codes {
    ($($name:ident = $number:literal, $slug:literal, $status:literal, $title:literal;)*) => {
        /// A problem that a client can receive.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The last part of the problem's `type` URI. A published slug never changes.
            pub fn slug(self) -> &'static str {
                match self { $(Code::$name => $slug,)* }
            }
            /// The stable problem number; never reused.
            pub fn number(self) -> u16 {
                match self { $(Code::$name => $number,)* }
            }
            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }
            /// The English title.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
            /// `None`: unknown slug.
            pub fn from_slug(slug: &str) -> Option<Code> {
                match slug { $($slug => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    Internal = 1000, "internal", 500, "Something went wrong on our side";
    MalformedJson = 1001, "malformed-json", 400, "The body is not valid JSON";
    DuplicateField = 1002, "duplicate-field", 400, "A field is given twice";
    TooDeep = 1003, "too-deep", 400, "The body is nested too deeply";
    BadEncoding = 1004, "bad-encoding", 400, "The text is not valid UTF-8";
    InvalidField = 1005, "invalid-field", 422, "A field has an unacceptable value";
    UnknownField = 1006, "unknown-field", 422, "A field is not known here";
    TooLong = 1007, "too-long", 422, "A text is too long";
    TooMany = 1008, "too-many", 422, "A list has too many entries";
    BodyTooLarge = 1009, "body-too-large", 413, "The body is too large";
    UnsupportedMediaType = 1010, "unsupported-media-type", 415, "The content type or encoding is not supported";
    NotAcceptable = 1011, "not-acceptable", 406, "No acceptable representation";
    MethodNotAllowed = 1012, "method-not-allowed", 405, "The method is not allowed here";
    UriTooLong = 1013, "uri-too-long", 414, "The request target is too long";
    HeadersTooLarge = 1014, "headers-too-large", 431, "The request headers are too large";
    BadRequest = 1015, "bad-request", 400, "The request is not valid HTTP";
    DuplicateParameter = 1016, "duplicate-parameter", 400, "A query parameter is given twice";
    InvalidParameter = 1017, "invalid-parameter", 422, "A query or path parameter has an unacceptable value";
    InvalidCursor = 1018, "invalid-cursor", 400, "The page cursor is not valid";
    UnknownVersion = 1019, "unknown-version", 400, "There is no such API version";
    NotFound = 1020, "not-found", 404, "There is nothing here";
    Timeout = 1021, "timeout", 408, "The request took too long";
    Unavailable = 1022, "unavailable", 503, "Not available just now";
    Overloaded = 1023, "overloaded", 503, "Too busy just now";
    InvalidTime = 1024, "invalid-time", 422, "An instant is not valid";
    InvalidAmount = 1025, "invalid-amount", 422, "An amount is not whole won";
    AmountOutOfRange = 1026, "amount-out-of-range", 422, "An amount is out of range";
    ExpectationFailed = 1029, "expectation-failed", 417, "Only the expectation 100-continue can be met";
    IdempotencyKeyMissing = 1030, "idempotency-key-missing", 400, "The Idempotency-Key header is required";
    InvalidKey = 1031, "invalid-key", 400, "The Idempotency-Key is not acceptable";
    IdempotencyKeyMismatch = 1032, "idempotency-key-mismatch", 422, "The Idempotency-Key was used with another request";
    IdempotencyInProgress = 1033, "idempotency-in-progress", 409, "The first request with this key is still running";
    TooManyRequests = 1034, "too-many-requests", 429, "Too many requests in a short time";

    InsufficientFunds = 2000, "insufficient-funds", 409, "The balance does not cover the amount";
    PaymentFailed = 2001, "payment-failed", 409, "The payment was refused";
    PaymentUnknown = 2002, "payment-unknown", 409, "The payment's outcome is not known yet";
    AlreadyPaid = 2003, "already-paid", 409, "The order is paid already";
    PaymentMethodNotAllowed = 2004, "payment-method-not-allowed", 422, "The payment method cannot be used for this order";
    InsufficientPoints = 2005, "insufficient-points", 409, "The points do not cover the amount";
    ChargeTooSmall = 2006, "charge-too-small", 422, "The amount is below the minimum charge";

    Unauthenticated = 3000, "unauthenticated", 401, "Sign in first";
    BadCredentials = 3001, "bad-credentials", 401, "E-mail or password is wrong";
    Forbidden = 3002, "forbidden", 403, "Not allowed for this account";
    TokenReused = 3003, "token-reused", 401, "The refresh token was used before";
    TooManyAttempts = 3004, "too-many-attempts", 429, "Too many attempts";
    WeakPassword = 3005, "weak-password", 422, "The password is too weak";
    EmailTaken = 3006, "email-taken", 409, "An account with this e-mail exists";
    Csrf = 3007, "csrf", 403, "The request comes from another site";
    LastOperator = 3010, "last-operator", 409, "The mall keeps at least one operator";
    AccountInUse = 3011, "account-in-use", 409, "The account cannot be closed yet";

    PriceChanged = 4000, "price-changed", 409, "The price has changed";
    NotOnSale = 4001, "not-on-sale", 409, "The product is not on sale";
    OutOfStock = 4002, "out-of-stock", 409, "Not enough in stock";
    StockBelowReserved = 4003, "stock-below-reserved", 409, "More is reserved than that";
    StockChanged = 4004, "stock-changed", 409, "The stock has changed since it was read";

    OrderTooLarge = 5000, "order-too-large", 422, "The order is too large";
    IllegalTransition = 5001, "illegal-transition", 409, "The order's state does not allow this";
    AmountMismatch = 5002, "amount-mismatch", 409, "The amount differs from the order's";
    CartChanged = 5003, "cart-changed", 409, "The cart was changed or ordered meanwhile";
    PaymentInProgress = 5004, "payment-in-progress", 409, "A payment of this order is running";
    OrderExpired = 5005, "order-expired", 409, "The order was not paid in time";
    EmptyOrder = 5006, "empty-order", 422, "There is nothing to order";
    StepTimedOut = 5007, "step-timed-out", 409, "A step of the order took too long";
    UnpaidLimit = 5008, "unpaid-limit", 409, "Too much is ordered without payment";
    UnpaidPaused = 5009, "unpaid-paused", 409, "Orders without payment are paused";

    CouponNotUsable = 6000, "coupon-not-usable", 422, "There is no such usable coupon";
    CouponExpired = 6001, "coupon-expired", 409, "The coupon has expired";
    CouponUsed = 6002, "coupon-used", 409, "The coupon is used or held by an order";
    CouponNotStarted = 6003, "coupon-not-started", 409, "The coupon cannot be used yet";
    CouponNotApplicable = 6004, "coupon-not-applicable", 422, "The coupon does not apply to this order";
    AlreadyIssued = 6010, "already-issued", 409, "You have this coupon already";
    SoldOut = 6011, "sold-out", 409, "The coupons are gone";
    NotOpen = 6012, "not-open", 409, "The coupon is not given out yet";
    Closed = 6013, "closed", 409, "The coupon is not given out any more";
    QuantityBelowIssued = 6014, "quantity-below-issued", 409, "More coupons are issued than that";
    CouponNotReturnable = 6015, "coupon-not-returnable", 409, "The coupon cannot be given back in its state";

    BadGateway = 8000, "bad-gateway", 502, "A service did not answer";
    ServiceUnavailable = 8001, "service-unavailable", 503, "A service is not available";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slug = Cow::<'de, str>::deserialize(deserializer)?;
        Code::from_slug(&slug).ok_or_else(|| de::Error::custom(format!("unknown problem {slug}")))
    }
}

/// A business rule rejected the request. This is an outcome, not a fault, and never aborts the transaction that found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {detail}", code.slug())]
pub struct Refusal {
    pub code: Code,
    /// One sentence for the client's user.
    pub detail: String,
}

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, detail: code.title().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_slugs_are_unique() {
        let numbers: HashSet<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let slugs: HashSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!((numbers.len(), slugs.len()), (Code::ALL.len(), Code::ALL.len()));
    }
}
