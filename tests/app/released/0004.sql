-- One row at least in every table, as the fourth schema holds them.
INSERT INTO blobs (sha256, size, data) VALUES
  ('b06dc7d3f68687e008651ef9683ecfbccee3106b1f9e145dc083bef5dfaf4411', 7, 'a delta');
INSERT INTO models (id, source, status, base_fingerprint, next_ord) VALUES
  ('tiny', '{"kind": "hub", "id": "org/tiny"}', 'ready', 'sha256:base', 4);
INSERT INTO leases (model_id, epoch) VALUES ('tiny', 3);
INSERT INTO edits (id, model_id, ord, kind, editor, status, payload, live, epoch) VALUES
  ('edt_00000000000000000000000001', 'tiny', 1, 'edit', 'memit', 'applied',
   '{"requests": [{"subject": "France", "prompt": "The capital of {} is", "target_new": "Lyon"}],
     "hparams": {}}', true, 3),
  ('edt_00000000000000000000000002', 'tiny', 2, 'restore', NULL, 'failed',
   '{"snapshot": "snp_00000000000000000000000000"}', false, 3),
  ('edt_00000000000000000000000003', 'tiny', 3, 'edit', 'memit', 'queued',
   '{"requests": [{"subject": "Spain", "prompt": "The capital of {} is", "target_new": "Vigo"}],
     "hparams": {}}', false, NULL);
INSERT INTO snapshots (id, model_id, seq, parent_id, kind, edit_id, extends_id, entries, depth,
                       epoch, fingerprint) VALUES
  ('snp_00000000000000000000000000', 'tiny', 0, NULL, 'base', NULL, NULL, '[]', 0, 3,
   'sha256:base'),
  ('snp_00000000000000000000000001', 'tiny', 1, 'snp_00000000000000000000000000', 'edit',
   'edt_00000000000000000000000001', 'snp_00000000000000000000000000',
   '[{"edit": "edt_00000000000000000000000001",
      "blob": "b06dc7d3f68687e008651ef9683ecfbccee3106b1f9e145dc083bef5dfaf4411"}]', 1, 3,
   'sha256:one');
UPDATE models SET head_id = 'snp_00000000000000000000000001', head_seq = 1;
UPDATE edits SET parent_id = 'snp_00000000000000000000000000',
  snapshot_id = 'snp_00000000000000000000000001' WHERE ord = 1;
INSERT INTO journal (model_id, edit_id, event, data) VALUES
  ('tiny', 'edt_00000000000000000000000001', 'edit.settled', '{}');
INSERT INTO outbox (stream, message) VALUES
  ('edits:tiny', '{"edit_id": "edt_00000000000000000000000003"}');
INSERT INTO idempotency_keys (key, body_hash, edit_id, status_code, response) VALUES
  ('k', 'h', 'edt_00000000000000000000000001', 202, '{}');
INSERT INTO edits (id, model_id, ord, kind, editor, status, payload, dry_run, epoch) VALUES
  ('edt_00000000000000000000000004', 'tiny', 4, 'edit', 'memit', 'applied',
   '{"requests": [{"subject": "Italy", "prompt": "The capital of {} is", "target_new": "Bari"}],
     "hparams": {}}', true, 3),
  ('edt_00000000000000000000000005', 'tiny', 5, 'statistics', 'memit', 'applied',
   '{"hparams": {}}', false, 3);
UPDATE models SET next_ord = 6;
UPDATE snapshots SET label = 'first' WHERE seq = 1;
INSERT INTO evals (id, model_id, suite, status, snapshot_id, hparams, options, data, records, done,
                   total, rows) VALUES
  ('evl_00000000000000000000000001', 'tiny', 'tracing', 'finished',
   'snp_00000000000000000000000001', '{}', '{}', '{"name": null}',
   'b06dc7d3f68687e008651ef9683ecfbccee3106b1f9e145dc083bef5dfaf4411', 1, 1, 1);
INSERT INTO eval_rows (eval_id, number, data) VALUES
  ('evl_00000000000000000000000001', 0, '{"case": 0}');
INSERT INTO idempotency_keys (key, body_hash, eval_id, status_code, response) VALUES
  ('e', 'h', 'evl_00000000000000000000000001', 202, '{}');
UPDATE models SET guard = '{"kl": 0.2}';
UPDATE snapshots SET health = '{"kl": 0.01, "finite": true, "verdict": "passed", "breaches": []}'
  WHERE seq = 1;
INSERT INTO facts (edit_id, number, model_id, ord, ask, subject, object, held, asked_seq) VALUES
  ('edt_00000000000000000000000001', 0, 'tiny', 1, 'a', 's', 'o', true, 1);
INSERT INTO edits (id, model_id, ord, kind, editor, status, payload, evidence, epoch) VALUES
  ('edt_00000000000000000000000006', 'tiny', 6, 'edit', 'memit', 'rejected',
   '{"requests": [{"subject": "Peru", "prompt": "The capital of {} is", "target_new": "Cusco"}],
     "hparams": {}}', 'b06dc7d3f68687e008651ef9683ecfbccee3106b1f9e145dc083bef5dfaf4411', 3);
UPDATE models SET next_ord = 7;
