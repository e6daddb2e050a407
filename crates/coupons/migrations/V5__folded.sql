-- True: search is the folded name, NFKC and without case. An earlier binary writes the name in lower case, and a job folds it.
alter table coupons_definitions add column folded BOOLEAN not null default false;

create index coupons_definitions_unfolded on coupons_definitions (id) where not folded;
