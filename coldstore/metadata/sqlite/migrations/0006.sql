-- Which machine began an epoch, and which one had a drive last (coldstore.model.hosts); empty: nobody noted it.
ALTER TABLE epochs ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE drives ADD COLUMN host TEXT NOT NULL DEFAULT '';
