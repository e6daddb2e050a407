use crate::support::{app, open};
use contracts::{
    MemberId, Message,
    calls::{GetStore, GetStoresOfSeller},
    messages::MemberClosed,
};
use kit::ports::new_id;

// R3
#[tokio::test]
async fn the_store_of_a_closed_account_goes_over_to_the_mall() {
    let app = app().await;
    let (gone, other) = (MemberId(new_id()), MemberId(new_id()));
    let (theirs, kept) = (open(&app, "Wine", Some(gone)).await, open(&app, "Flowers", Some(other)).await);
    app.faults.repeat("stores", "member.closed", 1);
    app.emit("accounts", gone, Message::MemberClosed(MemberClosed { member_id: gone })).await;
    let links = &app.kit().links;
    assert_eq!(links.call(GetStoresOfSeller { seller_id: gone }).await.expect("an answer"), []);
    let seller = async |store_id| links.call(GetStore { store_id }).await.expect("an answer").expect("a store").seller_id;
    assert_eq!((seller(theirs).await, seller(kept).await), (None, Some(other)));
}
