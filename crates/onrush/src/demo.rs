//! Contents of the demo mall: three stores (wine, flowers, fashion), about sixty products, coupons, sample accounts.

use crate::in_process::{InProcessClient, PostRequest};
use axum::Router;
use contracts::Timestamp;
use kit::ports::{Clock, SystemClock};
use serde_json::{Value, json};
use std::{fmt::Write, net::SocketAddr, time::Duration};

pub const OPERATOR: (&str, &str) = ("operator@demo.onrush.example", "autumn-leaves-2026");
const PASSWORD: &str = "maple-syrup-2026";
const SHOPPERS: [(&str, &str); 3] =
    [("minji@demo.onrush.example", "Kim Minji"), ("jun@demo.onrush.example", "Lee Jun"), ("sora@demo.onrush.example", "Park Sora")];
const SELLER_PASSWORD: &str = "harvest-moon-2026";

/// A store with its seller's e-mail, the options of each product, and the products with prices.
struct DemoStore {
    name: &'static str,
    seller: &'static str,
    options: &'static [(&'static str, i64, i64)],
    products: &'static [(&'static str, i64)],
}

/// Options are name, price difference and stock.
const STORES: [DemoStore; 3] = [
    DemoStore {
        name: "Wine Mall",
        seller: "wine@demo.onrush.example",
        options: &[("750 ml", 0, 120), ("1.5 l magnum", 45_000, 20)],
        products: &[
            ("Riesling Kabinett 2023", 32_000),
            ("Grüner Veltliner 2022", 28_000),
            ("Chablis Premier Cru 2021", 68_000),
            ("Sancerre Blanc 2022", 54_000),
            ("Albariño Rías Baixas 2023", 36_000),
            ("Pinot Grigio Alto Adige 2022", 29_000),
            ("Chardonnay Sonoma 2021", 61_000),
            ("Sauvignon Blanc Marlborough 2023", 27_000),
            ("Pinot Noir Willamette 2021", 72_000),
            ("Barolo 2018", 98_000),
            ("Chianti Classico Riserva 2019", 47_000),
            ("Rioja Gran Reserva 2015", 59_000),
            ("Malbec Uco Valley 2021", 34_000),
            ("Cabernet Sauvignon Napa 2019", 120_000),
            ("Syrah Crozes-Hermitage 2020", 49_000),
            ("Beaujolais Villages 2022", 31_000),
            ("Cava Brut Nature", 26_000),
            ("Champagne Extra Brut", 89_000),
            ("Tawny Port 10 years", 45_000),
            ("Moscato d'Asti 2023", 24_000),
        ],
    },
    DemoStore {
        name: "Blooming Blooms",
        seller: "flowers@demo.onrush.example",
        options: &[("small", 0, 60), ("large", 15_000, 30)],
        products: &[
            ("Rose bouquet, red", 39_000),
            ("Rose bouquet, cream", 39_000),
            ("Tulips of the season", 29_000),
            ("Peonies", 52_000),
            ("Ranunculus", 34_000),
            ("Sunflowers", 27_000),
            ("Hydrangea, blue", 36_000),
            ("Lilies, white", 33_000),
            ("Gerbera mix", 25_000),
            ("Freesia", 24_000),
            ("Eucalyptus bundle", 18_000),
            ("Dried lavender", 21_000),
            ("Cotton branches", 23_000),
            ("Orchid, Phalaenopsis", 58_000),
            ("Monstera", 42_000),
            ("Olive tree", 64_000),
            ("Birthday basket", 49_000),
            ("Table arrangement", 45_000),
            ("Wreath of eucalyptus", 47_000),
            ("Bouquet of the florist", 55_000),
        ],
    },
    DemoStore {
        name: "Autumn Fashion",
        seller: "fashion@demo.onrush.example",
        options: &[("S", 0, 40), ("M", 0, 60), ("L", 0, 40)],
        products: &[
            ("Wool coat, camel", 189_000),
            ("Trench coat", 159_000),
            ("Quilted jacket", 99_000),
            ("Denim jacket", 79_000),
            ("Cashmere sweater", 129_000),
            ("Lambswool cardigan", 89_000),
            ("Turtleneck, merino", 69_000),
            ("Oxford shirt", 49_000),
            ("Linen shirt", 45_000),
            ("Striped long sleeve", 32_000),
            ("Heavy T-shirt", 29_000),
            ("Corduroy trousers", 69_000),
            ("Wide jeans", 74_000),
            ("Chino trousers", 59_000),
            ("Pleated skirt", 65_000),
            ("Knit dress", 95_000),
            ("Silk scarf", 39_000),
            ("Leather belt", 42_000),
            ("Wool beanie", 25_000),
            ("Canvas tote bag", 35_000),
        ],
    },
];

/// Contents of the filled mall, for the greeting.
pub struct DemoContents {
    products: usize,
    rush_coupon: String,
    first_sku: String,
}

/// Fills an empty mall through its own API.
pub async fn fill_mall(router: Router, operator: Option<&(String, String)>) -> Result<DemoContents, String> {
    let client = InProcessClient::new(router);
    let (email, password) = operator.map_or(OPERATOR, |(email, password)| (email, password));
    let token = sign_in(&client, email, password).await?;
    let mut first_sku = None;
    for store in &STORES {
        let sku = create_store(&client, &token, store).await?;
        first_sku.get_or_insert(sku);
    }
    let rush_coupon = create_coupons(&client, &token).await?;
    for (email, name) in SHOPPERS {
        let member = sign_up(&client, email, name, PASSWORD).await?;
        let own = sign_in(&client, email, PASSWORD).await?;
        client.post(PostRequest::new("/v1/wallet/charges", Some(&own), json!({"amount": 1_000_000}))).await?;
        client
            .post(PostRequest::new("/v1/wallet/grants", Some(&token), json!({"member_id": member, "amount": 5_000, "reason": "welcome"})))
            .await?;
    }
    Ok(DemoContents {
        products: STORES.iter().map(|store| store.products.len()).sum(),
        rush_coupon,
        first_sku: first_sku.ok_or("the first store has no product")?,
    })
}

async fn create_store(client: &InProcessClient, operator: &str, store: &DemoStore) -> Result<String, String> {
    let seller = sign_up(client, store.seller, store.name, SELLER_PASSWORD).await?;
    let created = client.post(PostRequest::new("/v1/stores", Some(operator), json!({"name": store.name, "seller_id": seller}))).await?;
    let options: Vec<Value> =
        store.options.iter().map(|(name, delta, stock)| json!({"name": name, "price_delta": delta, "stock": stock})).collect();
    let mut first_sku = None;
    for (name, price) in store.products {
        let body = json!({"name": name, "price": price, "store_id": created["id"], "options": options});
        let product = client.post(PostRequest::new("/v1/products", Some(operator), body)).await?;
        let sku = product["options"][0]["sku"].as_str().map(str::to_owned);
        first_sku = first_sku.or(sku);
    }
    first_sku.ok_or_else(|| format!("{} has no product", store.name))
}

/// Creates a limited coupon with a waitlist, an unlimited one, and one that opens in three minutes. Returns the id of the first.
async fn create_coupons(client: &InProcessClient, operator: &str) -> Result<String, String> {
    let now = SystemClock.now();
    let days = |count: u64| Duration::from_secs(count * 24 * 3600);
    let coupon = |name: &str, discount: Value, quantity: Option<u32>, from: Timestamp| {
        json!({
            "name": name, "kind": if quantity.is_some() { "first_come" } else { "unlimited" }, "discount": discount, "scope": "order",
            "quantity": quantity, "issue_from": from, "issue_until": now.after(days(7)), "valid_until": now.after(days(30)),
            "waitlist": quantity.is_some(),
        })
    };
    let soon = now.after(Duration::from_secs(3 * 60));
    let rush = coupon("Autumn rush: 10,000 won off, first 100", json!({"type": "amount", "won": 10_000}), Some(100), now);
    let created = client.post(PostRequest::new("/v1/coupons", Some(operator), without_null(rush))).await?;
    let welcome = coupon("Welcome: 5 % off", json!({"type": "rate", "basis_points": 500, "max_won": 20_000}), None, now);
    client.post(PostRequest::new("/v1/coupons", Some(operator), without_null(welcome))).await?;
    let opening = coupon(
        "Flash: half price, first 30, opens in three minutes",
        json!({"type": "rate", "basis_points": 5_000, "max_won": 50_000}),
        Some(30),
        soon,
    );
    client.post(PostRequest::new("/v1/coupons", Some(operator), without_null(opening))).await?;
    created["id"].as_str().map(str::to_owned).ok_or_else(|| "the coupon has no id".into())
}

fn without_null(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

async fn sign_up(client: &InProcessClient, email: &str, name: &str, password: &str) -> Result<String, String> {
    let member = client.post(PostRequest::new("/v1/accounts", None, json!({"email": email, "password": password, "name": name}))).await?;
    member["id"].as_str().map(str::to_owned).ok_or_else(|| "the account has no id".into())
}

async fn sign_in(client: &InProcessClient, email: &str, password: &str) -> Result<String, String> {
    let session = client.post(PostRequest::new("/v1/sessions", None, json!({"email": email, "password": password}))).await?;
    session["access_token"].as_str().map(str::to_owned).ok_or_else(|| "the session has no token".into())
}

impl DemoContents {
    pub fn greeting(&self, address: SocketAddr) -> String {
        let mut text = format!(
            "Onrush demo mall on http://{address}\n\n  API documentation   http://{address}/docs\n  {} products in {} stores; limited coupon {}\n  first SKU {}\n\n  accounts\n",
            self.products,
            STORES.len(),
            self.rush_coupon,
            self.first_sku
        );
        let _ = writeln!(text, "    operator  {:32} {}", OPERATOR.0, OPERATOR.1);
        for store in &STORES {
            let _ = writeln!(text, "    seller    {:32} {}", store.seller, SELLER_PASSWORD);
        }
        for (email, _) in SHOPPERS {
            let _ = writeln!(text, "    shopper   {email:32} {PASSWORD}");
        }
        text.push_str("\nCtrl-C stops it. The next demo starts with an empty mall.");
        text
    }
}
