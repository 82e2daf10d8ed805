-- Whether the truth is here. arriving_from: what is being moved or restored into this store and has not come whole, empty
-- when all of it has. moved_to: where the truth went, empty while it is here.
ALTER TABLE store ADD COLUMN arriving_from TEXT NOT NULL DEFAULT '';
ALTER TABLE store ADD COLUMN moved_to TEXT NOT NULL DEFAULT '';
-- Which machine began an epoch, and which one had a drive last (coldstore.model.hosts); empty: nobody noted it.
ALTER TABLE epochs ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE drives ADD COLUMN host TEXT NOT NULL DEFAULT '';
