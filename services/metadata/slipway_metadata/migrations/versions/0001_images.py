"""The image index: what each repository holds, as its manifests and configs tell it."""

revision = "0001_images"
down_revision = None

SQL = """
CREATE TABLE metadata.repositories (
    id   bigint PRIMARY KEY,           -- the gateway's; never used twice
    name text COLLATE "C" NOT NULL     -- as of the last event
);

-- One row for each manifest or index of each repository.
CREATE TABLE metadata.manifests (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository_id  bigint NOT NULL REFERENCES metadata.repositories ON DELETE CASCADE,
    digest         text COLLATE "C" NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('image', 'index', 'artifact')),
    media_type     text NOT NULL,
    artifact_type  text,
    subject        text COLLATE "C",
    image_id       text COLLATE "C",
    os             text,
    architecture   text,
    variant        text,
    created_at     timestamptz,
    pushed_at      timestamptz NOT NULL,   -- the last push of it
    pushed_by      text,
    manifest_bytes bigint NOT NULL,
    config_digest  text COLLATE "C",
    config_bytes   bigint NOT NULL,
    document_bytes bigint NOT NULL,        -- manifest and config together: bounds what a row can weigh in an answer
    size_bytes     bigint NOT NULL,        -- the whole tree, each digest once
    top_level      boolean NOT NULL,       -- tagged, or in no index: what a list of images shows
    config         jsonb,
    annotations    jsonb NOT NULL,
    history        jsonb NOT NULL,
    problem        text,
    UNIQUE (repository_id, digest)
);
CREATE INDEX manifests_newest ON metadata.manifests (repository_id, pushed_at DESC, digest DESC) WHERE top_level;
CREATE INDEX manifests_by_image_id ON metadata.manifests (repository_id, image_id) WHERE image_id IS NOT NULL;

CREATE TABLE metadata.layers (
    manifest_id bigint NOT NULL REFERENCES metadata.manifests ON DELETE CASCADE,
    position    integer NOT NULL,
    digest      text COLLATE "C" NOT NULL,
    size_bytes  bigint NOT NULL,
    media_type  text NOT NULL,
    diff_id     text COLLATE "C",
    PRIMARY KEY (manifest_id, position)
);

-- The entries of an index. A child need not be indexed (yet): no foreign key to its own row.
CREATE TABLE metadata.children (
    manifest_id   bigint NOT NULL REFERENCES metadata.manifests ON DELETE CASCADE,
    position      integer NOT NULL,
    repository_id bigint NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    size_bytes    bigint NOT NULL,
    media_type    text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('image', 'index', 'artifact', 'attestation', 'blob')),
    artifact_type text,
    os            text,
    architecture  text,
    variant       text,
    annotations   jsonb NOT NULL,
    attests       text COLLATE "C",
    PRIMARY KEY (manifest_id, position)
);
CREATE INDEX children_by_digest ON metadata.children (repository_id, digest);

-- A tag may name a manifest that is not indexed: it was deleted before it could be read, and its event is on the way.
CREATE TABLE metadata.tags (
    repository_id bigint NOT NULL REFERENCES metadata.repositories ON DELETE CASCADE,
    name          text COLLATE "C" NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (repository_id, name)
);
CREATE INDEX tags_by_digest ON metadata.tags (repository_id, digest, updated_at DESC, name);
"""
