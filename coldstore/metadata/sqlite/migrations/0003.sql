-- Copies that are to be made anew from another one: few, and asked for in every round.
CREATE INDEX lost_copies ON copies (bundle_id, pool) WHERE state = 'lost';
