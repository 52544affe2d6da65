BEGIN TRANSACTION;
CREATE TABLE alias_moves (
	alias VARCHAR(100) NOT NULL, 
	revision INTEGER NOT NULL, 
	configuration VARCHAR(12) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	note TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_alias_moves PRIMARY KEY (alias, revision), 
	CONSTRAINT ck_alias_moves_action CHECK (action IN ('created', 'moved', 'rolled_back')), 
	CONSTRAINT fk_alias_moves_alias FOREIGN KEY(alias) REFERENCES aliases (name), 
	CONSTRAINT fk_alias_moves_configuration FOREIGN KEY(configuration) REFERENCES configurations (id)
);
INSERT INTO "alias_moves" VALUES('chat',1,'497d1a8fbb52','created','the first','2026-11-28 10:29:52.763000');
INSERT INTO "alias_moves" VALUES('chat',2,'b450bd5b5828','moved','the second','2026-11-28 10:29:52.767000');
CREATE TABLE aliases (
	name VARCHAR(100) NOT NULL, 
	revision INTEGER NOT NULL, 
	configuration VARCHAR(12) NOT NULL, 
	created_at DATETIME NOT NULL, 
	moved_at DATETIME NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (name), 
	CONSTRAINT fk_aliases_configuration FOREIGN KEY(configuration) REFERENCES configurations (id)
);
INSERT INTO "aliases" VALUES('chat',2,'b450bd5b5828','2026-11-28 10:29:52.761000','2026-11-28 10:29:52.768000');
CREATE TABLE attempts (
	job_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	worker VARCHAR(12) NOT NULL, 
	trials INTEGER NOT NULL, 
	outcome VARCHAR(16), 
	reason TEXT, 
	started_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	CONSTRAINT pk_attempts PRIMARY KEY (job_id, number), 
	CONSTRAINT ck_attempts_outcome CHECK (outcome IN ('done', 'failed', 'cancelled', 'released', 'crashed', 'lost')), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT fk_attempts_worker FOREIGN KEY(worker) REFERENCES workers (id)
);
CREATE TABLE autokv_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT autokv_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "autokv_version" VALUES('0003');
CREATE TABLE blob_chunks (
	digest VARCHAR(64) NOT NULL, 
	position INTEGER NOT NULL, 
	data BLOB NOT NULL, 
	CONSTRAINT pk_blob_chunks PRIMARY KEY (digest, position), 
	CONSTRAINT fk_blob_chunks_digest FOREIGN KEY(digest) REFERENCES blobs (digest)
);
INSERT INTO "blob_chunks" VALUES('5be08c9684a1d25efcee09318204824278b08bbfb4aef973ffefd0b9d7478313',0,X'612C620A');
CREATE TABLE blobs (
	digest VARCHAR(64) NOT NULL, 
	size BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_blobs PRIMARY KEY (digest)
);
INSERT INTO "blobs" VALUES('5be08c9684a1d25efcee09318204824278b08bbfb4aef973ffefd0b9d7478313',4,'2026-11-28 10:29:52.739000');
CREATE TABLE "configurations" (
	job_id VARCHAR(12) NOT NULL, 
	result INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	roles JSON NOT NULL, 
	document JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	id VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_configurations PRIMARY KEY (job_id, result, digest), 
	CONSTRAINT fk_configurations_job_id_result FOREIGN KEY(job_id, result) REFERENCES results (job_id, number), 
	CONSTRAINT uq_configurations_id UNIQUE (id)
);
INSERT INTO "configurations" VALUES('803c2a57c4e5',1,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "done", "stop": "trials"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.440000','b450bd5b5828');
INSERT INTO "configurations" VALUES('803c2a57c4e5',1,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "done", "stop": "trials"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.440000','bac40ab7cd22');
INSERT INTO "configurations" VALUES('c9c039c2832e',1,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "interrupt"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.516000','3886e0cd80d5');
INSERT INTO "configurations" VALUES('c9c039c2832e',1,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "interrupt"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.516000','282d78508e6b');
INSERT INTO "configurations" VALUES('c9c039c2832e',2,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "patience"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.572000','497d1a8fbb52');
INSERT INTO "configurations" VALUES('c9c039c2832e',2,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "patience"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-28 10:29:52.572000','82275151c353');
CREATE TABLE events (
	job_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	data JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES('803c2a57c4e5',1,'started','{"attempt": 1, "worker": null}','2026-11-28 10:29:52.312000');
INSERT INTO "events" VALUES('803c2a57c4e5',2,'trial','{"number": 0, "state": "complete", "source": "warm", "digest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.029166666666666667}, "reason": null, "seconds": 0.3333333333333333}','2026-11-28 10:29:52.358000');
INSERT INTO "events" VALUES('803c2a57c4e5',3,'trial','{"number": 1, "state": "complete", "source": "warm", "digest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.052222222222222225}, "reason": null, "seconds": 0.25}','2026-11-28 10:29:52.365000');
INSERT INTO "events" VALUES('803c2a57c4e5',4,'trial','{"number": 2, "state": "complete", "source": "warm", "digest": "12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.07125}, "reason": null, "seconds": 0.2}','2026-11-28 10:29:52.376000');
INSERT INTO "events" VALUES('803c2a57c4e5',5,'trial','{"number": 3, "state": "failed", "source": "tpe", "digest": null, "config": null, "metrics": {}, "reason": "gr\u00f6\u00dfer als ''a\udcff\u0000b''", "seconds": 0.5}','2026-11-28 10:29:52.380000');
INSERT INTO "events" VALUES('803c2a57c4e5',6,'done','{"recommended": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "trials": 4, "reason": "the smallest that meets the constraints"}','2026-11-28 10:29:52.454000');
INSERT INTO "events" VALUES('c9c039c2832e',1,'started','{"attempt": 1, "worker": null}','2026-11-28 10:29:52.471000');
INSERT INTO "events" VALUES('c9c039c2832e',2,'trial','{"number": 0, "state": "complete", "source": "warm", "digest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.029166666666666667}, "reason": null, "seconds": 0.3333333333333333}','2026-11-28 10:29:52.482000');
INSERT INTO "events" VALUES('c9c039c2832e',3,'trial','{"number": 1, "state": "complete", "source": "warm", "digest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.052222222222222225}, "reason": null, "seconds": 0.25}','2026-11-28 10:29:52.495000');
INSERT INTO "events" VALUES('c9c039c2832e',4,'trial','{"number": 2, "state": "complete", "source": "warm", "digest": "12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.07125}, "reason": null, "seconds": 0.2}','2026-11-28 10:29:52.500000');
INSERT INTO "events" VALUES('c9c039c2832e',5,'trial','{"number": 3, "state": "failed", "source": "tpe", "digest": null, "config": null, "metrics": {}, "reason": "gr\u00f6\u00dfer als ''a\udcff\u0000b''", "seconds": 0.5}','2026-11-28 10:29:52.504000');
INSERT INTO "events" VALUES('c9c039c2832e',6,'released','{"attempt": 1, "reason": "the smallest that meets the constraints"}','2026-11-28 10:29:52.518000');
INSERT INTO "events" VALUES('c9c039c2832e',7,'started','{"attempt": 2, "worker": null}','2026-11-28 10:29:52.526000');
INSERT INTO "events" VALUES('c9c039c2832e',8,'trial','{"number": 4, "state": "complete", "source": "warm", "digest": "7d5c51f0df032b1e1de9b02962055cc53790a7f2730201de9873a1a9e78d7549", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.5, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.10148809523809522}, "reason": null, "seconds": 0.14285714285714285}','2026-11-28 10:29:52.533000');
INSERT INTO "events" VALUES('c9c039c2832e',9,'trial','{"number": 5, "state": "complete", "source": "warm", "digest": "355f50c44a7cfed648fdd0d4a59cde54a218dd453159dada8664c938d528cd23", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.6, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.11391156462585032}, "reason": null, "seconds": 0.125}','2026-11-28 10:29:52.551000');
INSERT INTO "events" VALUES('c9c039c2832e',10,'trial','{"number": 6, "state": "complete", "source": "warm", "digest": "e0129618aad9febffec1e1f19a95b461283fddb1e9bd07eac2bb6a1e989fba1e", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.7, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.12503472222222223}, "reason": null, "seconds": 0.1111111111111111}','2026-11-28 10:29:52.556000');
INSERT INTO "events" VALUES('c9c039c2832e',11,'trial','{"number": 7, "state": "infeasible", "source": "tpe", "digest": null, "config": null, "metrics": {}, "reason": "rank 9 of 8", "seconds": 0.5}','2026-11-28 10:29:52.560000');
INSERT INTO "events" VALUES('c9c039c2832e',12,'done','{"recommended": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "trials": 8, "reason": "the smallest that meets the constraints"}','2026-11-28 10:29:52.574000');
INSERT INTO "events" VALUES('ecdc2b97be03',1,'started','{"attempt": 1, "worker": null}','2026-11-28 10:29:52.577000');
INSERT INTO "events" VALUES('ecdc2b97be03',2,'failed','{"reason": "no memory"}','2026-11-28 10:29:52.680000');
INSERT INTO "events" VALUES('9a23ef3d9f18',1,'started','{"attempt": 1, "worker": null}','2026-11-28 10:29:52.686000');
INSERT INTO "events" VALUES('9a23ef3d9f18',2,'trial','{"number": 0, "state": "complete", "source": "warm", "digest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "config": {"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}, "metrics": {"kl_divergence": 0.029166666666666667}, "reason": null, "seconds": 0.3333333333333333}','2026-11-28 10:29:52.716000');
INSERT INTO "events" VALUES('9a23ef3d9f18',3,'released','{"attempt": 1, "reason": "stopped before it had finished"}','2026-11-28 10:29:52.719000');
INSERT INTO "events" VALUES('8a304233ff48',1,'started','{"attempt": 1, "worker": null}','2026-11-28 10:29:52.723000');
INSERT INTO "events" VALUES('8a304233ff48',2,'released','{"attempt": 1, "reason": "stopped before it had finished"}','2026-11-28 10:29:52.727000');
CREATE TABLE front_points (
	job_id VARCHAR(12) NOT NULL, 
	result INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	trial INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	feasible BOOLEAN NOT NULL, 
	validation INTEGER, 
	CONSTRAINT pk_front_points PRIMARY KEY (job_id, result, position), 
	CONSTRAINT fk_front_points_job_id_result FOREIGN KEY(job_id, result) REFERENCES results (job_id, number), 
	CONSTRAINT fk_front_points_job_id_trial FOREIGN KEY(job_id, trial) REFERENCES trials (job_id, number), 
	CONSTRAINT fk_front_points_validation FOREIGN KEY(validation) REFERENCES measurements (id)
);
INSERT INTO "front_points" VALUES('803c2a57c4e5',1,0,0,'warm',0,4);
INSERT INTO "front_points" VALUES('803c2a57c4e5',1,1,1,'warm',1,5);
INSERT INTO "front_points" VALUES('c9c039c2832e',1,0,0,'warm',0,9);
INSERT INTO "front_points" VALUES('c9c039c2832e',1,1,1,'warm',1,10);
INSERT INTO "front_points" VALUES('c9c039c2832e',2,0,0,'warm',0,14);
INSERT INTO "front_points" VALUES('c9c039c2832e',2,1,1,'warm',1,15);
CREATE TABLE hardware_profiles (
	id VARCHAR(12) NOT NULL, 
	name TEXT NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	source VARCHAR(16) NOT NULL, 
	document JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_hardware_profiles PRIMARY KEY (id), 
	CONSTRAINT ck_hardware_profiles_source CHECK (source IN ('uploaded', 'measured'))
);
INSERT INTO "hardware_profiles" VALUES('877f46e6675e','edge','0123456789abcdef','uploaded','{"name": "edge", "fingerprint": "0123456789abcdef"}','2026-11-28 10:29:52.747000');
CREATE TABLE idempotency_keys (
	"key" VARCHAR(255) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	job_id VARCHAR(12) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY ("key"), 
	CONSTRAINT fk_idempotency_keys_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE TABLE "jobs" (
	id VARCHAR(12) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	request JSON NOT NULL, 
	model VARCHAR(64), 
	hardware JSON, 
	workload JSON, 
	versions JSON NOT NULL, 
	reason TEXT, 
	stopped_by VARCHAR(16), 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	attempts INTEGER NOT NULL, 
	owner VARCHAR(32), 
	owner_host TEXT, 
	owner_process INTEGER, 
	heartbeat_at DATETIME, 
	lease_until DATETIME, 
	local BOOLEAN DEFAULT 1 NOT NULL, 
	selector TEXT, 
	submission JSON, 
	trace VARCHAR(12), 
	prompts VARCHAR(12), 
	profile VARCHAR(12), 
	worker VARCHAR(12), 
	crashes INTEGER DEFAULT '0' NOT NULL, 
	conditions JSON, 
	progress JSON, 
	last_event INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_model FOREIGN KEY(model) REFERENCES models (fingerprint), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')), 
	CONSTRAINT fk_jobs_prompts FOREIGN KEY(prompts) REFERENCES uploads (id), 
	CONSTRAINT fk_jobs_trace FOREIGN KEY(trace) REFERENCES uploads (id), 
	CONSTRAINT fk_jobs_worker FOREIGN KEY(worker) REFERENCES workers (id), 
	CONSTRAINT fk_jobs_profile FOREIGN KEY(profile) REFERENCES hardware_profiles (id)
);
INSERT INTO "jobs" VALUES('afefc8b72f86','queued','{"model": "waiting", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": false, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 3, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": "notes.txt", "space": "balanced", "device": "auto"}',NULL,NULL,NULL,'{}',NULL,NULL,'2026-11-28 10:29:52.284000',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,0);
INSERT INTO "jobs" VALUES('803c2a57c4e5','done','{"model": "done", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": false, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {"kl_divergence": 0.1}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": null, "space": "balanced", "device": "auto"}','a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"device": "cpu"}','{"name": "trace", "lengths": [1, 2]}','{"torch": "2.13"}','the smallest that meets the constraints','trials','2026-11-28 10:29:52.297000','2026-11-28 10:29:52.309000','2026-11-28 10:29:52.447000',1,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,6);
INSERT INTO "jobs" VALUES('c9c039c2832e','done','{"model": "resumed", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": false, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {"kl_divergence": 0.1}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": null, "space": "balanced", "device": "auto"}','a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"device": "cpu"}','{"name": "trace", "lengths": [1, 2]}','{"torch": "2.13"}','the smallest that meets the constraints','patience','2026-11-28 10:29:52.464000','2026-11-28 10:29:52.470000','2026-11-28 10:29:52.573000',2,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,12);
INSERT INTO "jobs" VALUES('ecdc2b97be03','failed','{"model": "failed", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": true, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": null, "space": "balanced", "device": "auto"}',NULL,NULL,NULL,'{}','no memory',NULL,'2026-11-28 10:29:52.576000','2026-11-28 10:29:52.577000','2026-11-28 10:29:52.679000',1,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,2);
INSERT INTO "jobs" VALUES('9a23ef3d9f18','interrupted','{"model": "stopped", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": false, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": null, "space": "balanced", "device": "auto"}',NULL,NULL,NULL,'{}','stopped before it had finished',NULL,'2026-11-28 10:29:52.683000','2026-11-28 10:29:52.685000','2026-11-28 10:29:52.719000',1,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,3);
INSERT INTO "jobs" VALUES('8a304233ff48','interrupted','{"model": "left behind", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "prompts": null, "tasks": false, "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "text": null, "space": "balanced", "device": "auto"}',NULL,NULL,NULL,'{}','stopped before it had finished',NULL,'2026-11-28 10:29:52.721000','2026-11-28 10:29:52.723000','2026-11-28 10:29:52.727000',1,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,2);
CREATE TABLE kernel_times (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	document JSON NOT NULL, 
	seconds DOUBLE NOT NULL, 
	spread DOUBLE NOT NULL, 
	runs INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_kernel_times PRIMARY KEY (id)
);
INSERT INTO "kernel_times" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"stage": {"kind": "eviction"}, "tokens": 64}',0.0,2.0e-09,5,'2026-11-28 10:29:52.731000');
INSERT INTO "kernel_times" VALUES(2,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"stage": null, "tokens": 128}',1.5e-07,2.0e-09,5,'2026-11-28 10:29:52.731000');
INSERT INTO "kernel_times" VALUES(3,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"stage": {"kind": "eviction"}, "tokens": 64}',3.0e-07,2.0e-09,5,'2026-11-28 10:29:52.732000');
INSERT INTO "kernel_times" VALUES(4,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"stage": null, "tokens": 128}',4.5e-07,2.0e-09,5,'2026-11-28 10:29:52.733000');
CREATE TABLE measurements (
	id INTEGER NOT NULL, 
	job_id VARCHAR(12) NOT NULL, 
	trial INTEGER NOT NULL, 
	phase VARCHAR(16) NOT NULL, 
	metrics JSON NOT NULL, 
	CONSTRAINT pk_measurements PRIMARY KEY (id), 
	CONSTRAINT ck_measurements_phase CHECK (phase IN ('calibration', 'validation')), 
	CONSTRAINT fk_measurements_job_id_trial FOREIGN KEY(job_id, trial) REFERENCES trials (job_id, number)
);
INSERT INTO "measurements" VALUES(1,'803c2a57c4e5',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
INSERT INTO "measurements" VALUES(2,'803c2a57c4e5',1,'calibration','{"kl_divergence": {"mean": 0.052222222222222225, "std": 0.013471506281091268, "p95": 0.065, "worst": 0.06666666666666667, "n": 3}}');
INSERT INTO "measurements" VALUES(3,'803c2a57c4e5',2,'calibration','{"kl_divergence": {"mean": 0.07125, "std": 0.02174664725116648, "p95": 0.09624999999999999, "worst": 0.09999999999999999, "n": 4}}');
INSERT INTO "measurements" VALUES(4,'803c2a57c4e5',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(5,'803c2a57c4e5',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(6,'c9c039c2832e',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
INSERT INTO "measurements" VALUES(7,'c9c039c2832e',1,'calibration','{"kl_divergence": {"mean": 0.052222222222222225, "std": 0.013471506281091268, "p95": 0.065, "worst": 0.06666666666666667, "n": 3}}');
INSERT INTO "measurements" VALUES(8,'c9c039c2832e',2,'calibration','{"kl_divergence": {"mean": 0.07125, "std": 0.02174664725116648, "p95": 0.09624999999999999, "worst": 0.09999999999999999, "n": 4}}');
INSERT INTO "measurements" VALUES(9,'c9c039c2832e',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(10,'c9c039c2832e',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(11,'c9c039c2832e',4,'calibration','{"kl_divergence": {"mean": 0.10148809523809522, "std": 0.03887547347160833, "p95": 0.15625, "worst": 0.16666666666666666, "n": 6}}');
INSERT INTO "measurements" VALUES(12,'c9c039c2832e',5,'calibration','{"kl_divergence": {"mean": 0.11391156462585032, "std": 0.04740863376255021, "p95": 0.18499999999999994, "worst": 0.19999999999999998, "n": 7}}');
INSERT INTO "measurements" VALUES(13,'c9c039c2832e',6,'calibration','{"kl_divergence": {"mean": 0.12503472222222223, "std": 0.05582720046472324, "p95": 0.21291666666666662, "worst": 0.2333333333333333, "n": 8}}');
INSERT INTO "measurements" VALUES(14,'c9c039c2832e',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(15,'c9c039c2832e',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(16,'9a23ef3d9f18',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
CREATE TABLE models (
	fingerprint VARCHAR(64) NOT NULL, 
	facts JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (fingerprint)
);
INSERT INTO "models" VALUES('a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"name": "tiny", "layers": 3, "rope": {"theta": 10000.0}}','2026-11-28 10:29:52.295000');
CREATE TABLE results (
	job_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	trials INTEGER NOT NULL, 
	objectives JSON NOT NULL, 
	recommended VARCHAR(64), 
	named JSON NOT NULL, 
	reason TEXT NOT NULL, 
	hypervolume JSON NOT NULL, 
	importance JSON NOT NULL, 
	stopped_by VARCHAR(16) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_results PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_results_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "results" VALUES('803c2a57c4e5',1,'d32641f33ccb96e51f377b4df82d613a9b837190cfba9036d041c8a6a822baef',4,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','trials','2026-11-28 10:29:52.432000');
INSERT INTO "results" VALUES('c9c039c2832e',1,'1efd02eb3dace12efe3c42eed91cd9e852f90b8becd7c780f68527e11ccd61dd',4,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','interrupt','2026-11-28 10:29:52.513000');
INSERT INTO "results" VALUES('c9c039c2832e',2,'4680d827f8ad7d3f8950c8fc677a875d5901231b186962585235ba9f4e09d0e2',8,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','patience','2026-11-28 10:29:52.569000');
CREATE TABLE samples (
	measurement_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	result JSON NOT NULL, 
	CONSTRAINT pk_samples PRIMARY KEY (measurement_id, position), 
	CONSTRAINT fk_samples_measurement_id FOREIGN KEY(measurement_id) REFERENCES measurements (id)
);
INSERT INTO "samples" VALUES(1,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(1,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
INSERT INTO "samples" VALUES(2,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(2,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.05}');
INSERT INTO "samples" VALUES(2,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.04}');
INSERT INTO "samples" VALUES(3,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.09999999999999999}');
INSERT INTO "samples" VALUES(3,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.075}');
INSERT INTO "samples" VALUES(3,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06}');
INSERT INTO "samples" VALUES(3,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.049999999999999996}');
INSERT INTO "samples" VALUES(4,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(4,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
INSERT INTO "samples" VALUES(4,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.02}');
INSERT INTO "samples" VALUES(4,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.016666666666666666}');
INSERT INTO "samples" VALUES(4,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.014285714285714287}');
INSERT INTO "samples" VALUES(5,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(5,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.05}');
INSERT INTO "samples" VALUES(5,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.04}');
INSERT INTO "samples" VALUES(5,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(5,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.028571428571428574}');
INSERT INTO "samples" VALUES(6,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(6,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
INSERT INTO "samples" VALUES(7,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(7,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.05}');
INSERT INTO "samples" VALUES(7,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.04}');
INSERT INTO "samples" VALUES(8,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.09999999999999999}');
INSERT INTO "samples" VALUES(8,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.075}');
INSERT INTO "samples" VALUES(8,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06}');
INSERT INTO "samples" VALUES(8,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.049999999999999996}');
INSERT INTO "samples" VALUES(9,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(9,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
INSERT INTO "samples" VALUES(9,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.02}');
INSERT INTO "samples" VALUES(9,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.016666666666666666}');
INSERT INTO "samples" VALUES(9,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.014285714285714287}');
INSERT INTO "samples" VALUES(10,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(10,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.05}');
INSERT INTO "samples" VALUES(10,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.04}');
INSERT INTO "samples" VALUES(10,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(10,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.028571428571428574}');
INSERT INTO "samples" VALUES(11,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.16666666666666666}');
INSERT INTO "samples" VALUES(11,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.125}');
INSERT INTO "samples" VALUES(11,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.1}');
INSERT INTO "samples" VALUES(11,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.08333333333333333}');
INSERT INTO "samples" VALUES(11,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.07142857142857142}');
INSERT INTO "samples" VALUES(11,5,'{"id": "text-5", "kind": "text", "context_tokens": 512, "kl_divergence": 0.0625}');
INSERT INTO "samples" VALUES(12,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.19999999999999998}');
INSERT INTO "samples" VALUES(12,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.15}');
INSERT INTO "samples" VALUES(12,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.12}');
INSERT INTO "samples" VALUES(12,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.09999999999999999}');
INSERT INTO "samples" VALUES(12,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.08571428571428572}');
INSERT INTO "samples" VALUES(12,5,'{"id": "text-5", "kind": "text", "context_tokens": 512, "kl_divergence": 0.075}');
INSERT INTO "samples" VALUES(12,6,'{"id": "text-6", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(13,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.2333333333333333}');
INSERT INTO "samples" VALUES(13,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.175}');
INSERT INTO "samples" VALUES(13,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.13999999999999999}');
INSERT INTO "samples" VALUES(13,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.11666666666666665}');
INSERT INTO "samples" VALUES(13,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.09999999999999999}');
INSERT INTO "samples" VALUES(13,5,'{"id": "text-5", "kind": "text", "context_tokens": 512, "kl_divergence": 0.0875}');
INSERT INTO "samples" VALUES(13,6,'{"id": "text-6", "kind": "text", "context_tokens": 512, "kl_divergence": 0.07777777777777778}');
INSERT INTO "samples" VALUES(13,7,'{"id": "text-7", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06999999999999999}');
INSERT INTO "samples" VALUES(14,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(14,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
INSERT INTO "samples" VALUES(14,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.02}');
INSERT INTO "samples" VALUES(14,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.016666666666666666}');
INSERT INTO "samples" VALUES(14,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.014285714285714287}');
INSERT INTO "samples" VALUES(15,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.06666666666666667}');
INSERT INTO "samples" VALUES(15,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.05}');
INSERT INTO "samples" VALUES(15,2,'{"id": "text-2", "kind": "text", "context_tokens": 512, "kl_divergence": 0.04}');
INSERT INTO "samples" VALUES(15,3,'{"id": "text-3", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(15,4,'{"id": "text-4", "kind": "text", "context_tokens": 512, "kl_divergence": 0.028571428571428574}');
INSERT INTO "samples" VALUES(16,0,'{"id": "text-0", "kind": "text", "context_tokens": 512, "kl_divergence": 0.03333333333333333}');
INSERT INTO "samples" VALUES(16,1,'{"id": "text-1", "kind": "text", "context_tokens": 512, "kl_divergence": 0.025}');
CREATE TABLE trials (
	job_id VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	params JSON NOT NULL, 
	source TEXT NOT NULL, 
	config JSON, 
	digest VARCHAR(64), 
	reason TEXT, 
	seconds DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_trials PRIMARY KEY (job_id, number), 
	CONSTRAINT ck_trials_state CHECK (state IN ('complete', 'infeasible', 'failed')), 
	CONSTRAINT fk_trials_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "trials" VALUES('803c2a57c4e5',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-28 10:29:52.348000');
INSERT INTO "trials" VALUES('803c2a57c4e5',1,'complete','{"keep": 1}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909',NULL,0.25,'2026-11-28 10:29:52.363000');
INSERT INTO "trials" VALUES('803c2a57c4e5',2,'complete','{"keep": 2}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134',NULL,0.2,'2026-11-28 10:29:52.373000');
INSERT INTO "trials" VALUES('803c2a57c4e5',3,'failed','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'größer als ''a\udcff\x00b''',0.5,'2026-11-28 10:29:52.380000');
INSERT INTO "trials" VALUES('c9c039c2832e',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-28 10:29:52.477000');
INSERT INTO "trials" VALUES('c9c039c2832e',1,'complete','{"keep": 1}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909',NULL,0.25,'2026-11-28 10:29:52.485000');
INSERT INTO "trials" VALUES('c9c039c2832e',2,'complete','{"keep": 2}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134',NULL,0.2,'2026-11-28 10:29:52.498000');
INSERT INTO "trials" VALUES('c9c039c2832e',3,'failed','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'größer als ''a\udcff\x00b''',0.5,'2026-11-28 10:29:52.503000');
INSERT INTO "trials" VALUES('c9c039c2832e',4,'complete','{"keep": 4}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.5, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','7d5c51f0df032b1e1de9b02962055cc53790a7f2730201de9873a1a9e78d7549',NULL,1.42857142857142849212e-01,'2026-11-28 10:29:52.531000');
INSERT INTO "trials" VALUES('c9c039c2832e',5,'complete','{"keep": 5}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.6, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','355f50c44a7cfed648fdd0d4a59cde54a218dd453159dada8664c938d528cd23',NULL,0.125,'2026-11-28 10:29:52.549000');
INSERT INTO "trials" VALUES('c9c039c2832e',6,'complete','{"keep": 6}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.7, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e0129618aad9febffec1e1f19a95b461283fddb1e9bd07eac2bb6a1e989fba1e',NULL,1.11111111111111104943e-01,'2026-11-28 10:29:52.554000');
INSERT INTO "trials" VALUES('c9c039c2832e',7,'infeasible','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'rank 9 of 8',0.5,'2026-11-28 10:29:52.559000');
INSERT INTO "trials" VALUES('9a23ef3d9f18',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-28 10:29:52.714000');
CREATE TABLE uploads (
	id VARCHAR(12) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	name TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	facts JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_uploads PRIMARY KEY (id), 
	CONSTRAINT ck_uploads_kind CHECK (kind IN ('trace', 'prompts')), 
	CONSTRAINT fk_uploads_digest FOREIGN KEY(digest) REFERENCES blobs (digest)
);
INSERT INTO "uploads" VALUES('b6606519b741','trace','größer.csv','5be08c9684a1d25efcee09318204824278b08bbfb4aef973ffefd0b9d7478313','{"requests": 2}','2026-11-28 10:29:52.744000');
CREATE TABLE workers (
	id VARCHAR(12) NOT NULL, 
	host TEXT NOT NULL, 
	process INTEGER NOT NULL, 
	device TEXT NOT NULL, 
	labels JSON NOT NULL, 
	profile VARCHAR(12) NOT NULL, 
	versions JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	started_at DATETIME NOT NULL, 
	seen_at DATETIME NOT NULL, 
	until DATETIME NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (id), 
	CONSTRAINT ck_workers_state CHECK (state IN ('ready', 'draining', 'stopped')), 
	CONSTRAINT fk_workers_profile FOREIGN KEY(profile) REFERENCES hardware_profiles (id)
);
CREATE INDEX ix_trials_digest ON trials (digest);
CREATE INDEX ix_measurements_job_id_trial ON measurements (job_id, trial);
CREATE INDEX ix_kernel_times_key ON kernel_times ("key");
CREATE INDEX ix_hardware_profiles_created_at_id ON hardware_profiles (created_at, id);
CREATE INDEX ix_hardware_profiles_fingerprint ON hardware_profiles (fingerprint);
CREATE INDEX ix_uploads_kind_created_at_id ON uploads (kind, created_at, id);
CREATE INDEX ix_workers_state_until ON workers (state, until);
CREATE INDEX ix_idempotency_keys_job_id ON idempotency_keys (job_id);
CREATE INDEX ix_jobs_created_at_id ON jobs (created_at, id);
CREATE INDEX ix_jobs_state_selector_created_at ON jobs (state, selector, created_at);
CREATE INDEX ix_configurations_digest ON configurations (digest);
COMMIT;
