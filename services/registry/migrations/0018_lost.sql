-- How far the stream of events is this database's own. A database that was restored from a backup meets events there that it
-- does not know: what they say of agents is kept beside, newest version of each, until a restore is declared.
CREATE TABLE stream_place (
    singleton       boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_seq        bigint NOT NULL DEFAULT 0,  -- of an event of ours; 0: none yet
    unchecked_from  bigint,                     -- from there on nobody has looked; NULL: all is ours
    n_lost          bigint NOT NULL DEFAULT 0   -- events that this database does not know
);
INSERT INTO stream_place (last_seq) SELECT coalesce(max(stream_seq), 0) FROM outbox;

CREATE TABLE lost_agents (
    agent_id         uuid PRIMARY KEY,
    version          bigint NOT NULL,
    disabled_reason  text,                      -- NULL: not disabled
    frozen_reason    text NOT NULL,             -- '': not frozen
    min_generation   bigint NOT NULL,
    deleted          boolean NOT NULL
);
