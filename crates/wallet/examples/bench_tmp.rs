use contracts::*; use contracts::messages::*; use kit::testing::{App,Puppet}; use kit::ports::new_id; use wallet::*; use std::sync::Arc;
fn cpu() -> f64 { let s=std::fs::read_to_string("/proc/self/stat").unwrap(); let f:Vec<&str>=s.rsplit_once(')').unwrap().1.split_whitespace().collect(); (f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())/100.0 }
#[tokio::main(flavor="current_thread")]
async fn main() {
  for with in [false,true] {
    let app = App::start(move |kit| { let mut v = vec![Puppet::new(kit,"orders"), Puppet::new(kit,"payments")]; if with { v.push(Arc::new(Wallet::new(kit.clone(), WalletSettings::default())) as _) } v }).await;
    let members: Vec<MemberId> = (0..10_000).map(|_| MemberId(new_id())).collect();
    if with {
      let w = Arc::new(Wallet::new(app.kit().clone(), WalletSettings::default()));
      for chunk in members.chunks(500) {
        let a = chunk.iter().map(|m| app.kit().submit(&w, Charge{member_id:*m,amount:Won(10_000_000)}, None, new_id()));
        let b = chunk.iter().map(|m| app.kit().submit(&w, Grant{member_id:*m,amount:Won(100_000),reason:"seed".into(),granted_by:None}, None, new_id()));
        futures::join!(futures::future::join_all(a), futures::future::join_all(b));
      }
    }
    let n=300; let t=cpu(); let mut seed=12345u64;
    for _ in 0..n {
      let mut a=vec![]; let mut b=vec![]; let mut uses=vec![];
      for _ in 0..100 { seed=seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); let m=members[(seed>>33) as usize % 10_000];
        let o=OrderId(new_id()); let p=PaymentId(new_id());
        a.push(Message::PointsHold(PointsHold{order_id:o,member_id:m,amount:Won(100),expires_at:Timestamp(1)}));
        uses.push(Message::PointsUse(StepCommand{order_id:o}));
        b.push(Message::WalletDebit(WalletTransfer{payment_id:p,order_id:o,member_id:m,amount:Won(1000)})); }
      a.extend(uses);
      app.emit_all("orders", new_id(), a).await; app.emit_all("payments", new_id(), b).await;
    }
    println!("with={with} cpu us/order {:.1}", (cpu()-t)*1e6/(n as f64*100.0));
    if with { println!("used {}", app.sql_i64("select count(*) from wallet_holds where state='USED'").await); println!("wal {}", std::fs::metadata(app.folder().join("onrush.db-wal")).unwrap().len()); }
  }
}
