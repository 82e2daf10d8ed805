-- Which machine began an epoch, and which one had a drive last (coldstore.model.hosts); empty: nobody noted it.
ALTER TABLE epochs ADD COLUMN host text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE drives ADD COLUMN host text COLLATE "C" NOT NULL DEFAULT '';
