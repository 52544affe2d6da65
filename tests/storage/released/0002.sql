BEGIN TRANSACTION;
CREATE TABLE autokv_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT autokv_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "autokv_version" VALUES('0002');
CREATE TABLE configurations (
	job_id VARCHAR(12) NOT NULL, 
	result INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	roles JSON NOT NULL, 
	document JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_configurations PRIMARY KEY (job_id, result, digest), 
	CONSTRAINT fk_configurations_job_id_result FOREIGN KEY(job_id, result) REFERENCES results (job_id, number)
);
INSERT INTO "configurations" VALUES('ddfb39c4fc17',1,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "done", "stop": "trials"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.899000');
INSERT INTO "configurations" VALUES('ddfb39c4fc17',1,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "done", "stop": "trials"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.899000');
INSERT INTO "configurations" VALUES('4d25269a9884',1,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "interrupt"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.917000');
INSERT INTO "configurations" VALUES('4d25269a9884',1,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "interrupt"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.917000');
INSERT INTO "configurations" VALUES('4d25269a9884',2,'772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','["recommended", "smallest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "patience"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.936000');
INSERT INTO "configurations" VALUES('4d25269a9884',2,'e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909','["fastest", "front"]','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}, "model": {"name": "resumed", "stop": "patience"}, "hardware": null, "workload": null, "measured": null, "validated": null, "serving": null, "provenance": null}','2026-11-22 08:28:31.936000');
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
INSERT INTO "front_points" VALUES('ddfb39c4fc17',1,0,0,'warm',0,4);
INSERT INTO "front_points" VALUES('ddfb39c4fc17',1,1,1,'warm',1,5);
INSERT INTO "front_points" VALUES('4d25269a9884',1,0,0,'warm',0,9);
INSERT INTO "front_points" VALUES('4d25269a9884',1,1,1,'warm',1,10);
INSERT INTO "front_points" VALUES('4d25269a9884',2,0,0,'warm',0,14);
INSERT INTO "front_points" VALUES('4d25269a9884',2,1,1,'warm',1,15);
CREATE TABLE jobs (
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
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'interrupted')), 
	CONSTRAINT fk_jobs_model FOREIGN KEY(model) REFERENCES models (fingerprint)
);
INSERT INTO "jobs" VALUES('69300d287beb','queued','{"model": "waiting", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": "notes.txt", "prompts": null, "tasks": false, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 3, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}',NULL,NULL,NULL,'{}',NULL,NULL,'2026-11-22 08:28:31.859000',NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('ddfb39c4fc17','done','{"model": "done", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": null, "prompts": null, "tasks": false, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {"kl_divergence": 0.1}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}','a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"device": "cpu"}','{"name": "trace", "lengths": [1, 2]}','{"torch": "2.13"}','the smallest that meets the constraints','trials','2026-11-22 08:28:31.864000','2026-11-22 08:28:31.867000','2026-11-22 08:28:31.900000',1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('4d25269a9884','done','{"model": "resumed", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": null, "prompts": null, "tasks": false, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {"kl_divergence": 0.1}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}','a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"device": "cpu"}','{"name": "trace", "lengths": [1, 2]}','{"torch": "2.13"}','the smallest that meets the constraints','patience','2026-11-22 08:28:31.903000','2026-11-22 08:28:31.904000','2026-11-22 08:28:31.936000',2,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('29493f7d958d','failed','{"model": "failed", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": null, "prompts": null, "tasks": true, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}',NULL,NULL,NULL,'{}','no memory',NULL,'2026-11-22 08:28:31.938000','2026-11-22 08:28:31.939000','2026-11-22 08:28:31.941000',1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('f778c1f2e9db','interrupted','{"model": "stopped", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": null, "prompts": null, "tasks": false, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}',NULL,NULL,NULL,'{}','stopped before it had finished',NULL,'2026-11-22 08:28:31.943000','2026-11-22 08:28:31.944000','2026-11-22 08:28:31.948000',1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('333c25207b7a','interrupted','{"model": "left behind", "workload": null, "rate": null, "hardware": "here", "kv_memory": null, "slo": {}, "scenario": null, "text": null, "prompts": null, "tasks": false, "space": "balanced", "objectives": ["kl_divergence", "kv_bytes_per_token", "attention_us"], "maximums": {}, "minimums": {}, "sampler": "tpe", "trials": 60, "batch_size": 4, "timeout": null, "patience": null, "seed": 0, "samples": 4, "validation_samples": 4, "context_tokens": null, "max_context_tokens": null, "continuation_tokens": 64, "dtype": "auto", "device": "auto"}',NULL,NULL,NULL,'{}','stopped before it had finished',NULL,'2026-11-22 08:28:31.948000','2026-11-22 08:28:31.949000','2026-11-22 08:28:31.951000',1,NULL,NULL,NULL,NULL);
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
INSERT INTO "kernel_times" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"stage": {"kind": "eviction"}, "tokens": 64}',0.0,2.0e-09,5,'2026-11-22 08:28:31.952000');
INSERT INTO "kernel_times" VALUES(2,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"stage": null, "tokens": 128}',1.5e-07,2.0e-09,5,'2026-11-22 08:28:31.952000');
INSERT INTO "kernel_times" VALUES(3,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"stage": {"kind": "eviction"}, "tokens": 64}',3.0e-07,2.0e-09,5,'2026-11-22 08:28:31.953000');
INSERT INTO "kernel_times" VALUES(4,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"stage": null, "tokens": 128}',4.5e-07,2.0e-09,5,'2026-11-22 08:28:31.953000');
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
INSERT INTO "measurements" VALUES(1,'ddfb39c4fc17',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
INSERT INTO "measurements" VALUES(2,'ddfb39c4fc17',1,'calibration','{"kl_divergence": {"mean": 0.052222222222222225, "std": 0.013471506281091268, "p95": 0.065, "worst": 0.06666666666666667, "n": 3}}');
INSERT INTO "measurements" VALUES(3,'ddfb39c4fc17',2,'calibration','{"kl_divergence": {"mean": 0.07125, "std": 0.02174664725116648, "p95": 0.09624999999999999, "worst": 0.09999999999999999, "n": 4}}');
INSERT INTO "measurements" VALUES(4,'ddfb39c4fc17',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(5,'ddfb39c4fc17',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(6,'4d25269a9884',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
INSERT INTO "measurements" VALUES(7,'4d25269a9884',1,'calibration','{"kl_divergence": {"mean": 0.052222222222222225, "std": 0.013471506281091268, "p95": 0.065, "worst": 0.06666666666666667, "n": 3}}');
INSERT INTO "measurements" VALUES(8,'4d25269a9884',2,'calibration','{"kl_divergence": {"mean": 0.07125, "std": 0.02174664725116648, "p95": 0.09624999999999999, "worst": 0.09999999999999999, "n": 4}}');
INSERT INTO "measurements" VALUES(9,'4d25269a9884',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(10,'4d25269a9884',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(11,'4d25269a9884',4,'calibration','{"kl_divergence": {"mean": 0.10148809523809522, "std": 0.03887547347160833, "p95": 0.15625, "worst": 0.16666666666666666, "n": 6}}');
INSERT INTO "measurements" VALUES(12,'4d25269a9884',5,'calibration','{"kl_divergence": {"mean": 0.11391156462585032, "std": 0.04740863376255021, "p95": 0.18499999999999994, "worst": 0.19999999999999998, "n": 7}}');
INSERT INTO "measurements" VALUES(13,'4d25269a9884',6,'calibration','{"kl_divergence": {"mean": 0.12503472222222223, "std": 0.05582720046472324, "p95": 0.21291666666666662, "worst": 0.2333333333333333, "n": 8}}');
INSERT INTO "measurements" VALUES(14,'4d25269a9884',0,'validation','{"kl_divergence": {"mean": 0.02185714285714286, "std": 0.0075712788245149674, "p95": 0.03166666666666666, "worst": 0.03333333333333333, "n": 5}}');
INSERT INTO "measurements" VALUES(15,'4d25269a9884',1,'validation','{"kl_divergence": {"mean": 0.04371428571428572, "std": 0.015142557649029935, "p95": 0.06333333333333332, "worst": 0.06666666666666667, "n": 5}}');
INSERT INTO "measurements" VALUES(16,'f778c1f2e9db',0,'calibration','{"kl_divergence": {"mean": 0.029166666666666667, "std": 0.005892556509887895, "p95": 0.032916666666666664, "worst": 0.03333333333333333, "n": 2}}');
CREATE TABLE models (
	fingerprint VARCHAR(64) NOT NULL, 
	facts JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (fingerprint)
);
INSERT INTO "models" VALUES('a408a38f5e59e895ba4a87eb8a8b3d7efab36777c2c6cc302d297c34c7252533','{"name": "tiny", "layers": 3, "rope": {"theta": 10000.0}}','2026-11-22 08:28:31.863000');
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
INSERT INTO "results" VALUES('ddfb39c4fc17',1,'d32641f33ccb96e51f377b4df82d613a9b837190cfba9036d041c8a6a822baef',4,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','trials','2026-11-22 08:28:31.896000');
INSERT INTO "results" VALUES('4d25269a9884',1,'1efd02eb3dace12efe3c42eed91cd9e852f90b8becd7c780f68527e11ccd61dd',4,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','interrupt','2026-11-22 08:28:31.915000');
INSERT INTO "results" VALUES('4d25269a9884',2,'4680d827f8ad7d3f8950c8fc677a875d5901231b186962585235ba9f4e09d0e2',8,'["kl_divergence", "kv_bytes_per_token"]','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e','{"smallest": "772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e", "fastest": "e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909"}','the smallest that meets the constraints','[0.1, {"$float": "inf"}]','{"kl_divergence": {"keep": 1.0}}','patience','2026-11-22 08:28:31.934000');
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
INSERT INTO "trials" VALUES('ddfb39c4fc17',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-22 08:28:31.884000');
INSERT INTO "trials" VALUES('ddfb39c4fc17',1,'complete','{"keep": 1}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909',NULL,0.25,'2026-11-22 08:28:31.888000');
INSERT INTO "trials" VALUES('ddfb39c4fc17',2,'complete','{"keep": 2}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134',NULL,0.2,'2026-11-22 08:28:31.890000');
INSERT INTO "trials" VALUES('ddfb39c4fc17',3,'failed','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'größer als ''a\udcff\x00b''',0.5,'2026-11-22 08:28:31.891000');
INSERT INTO "trials" VALUES('4d25269a9884',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-22 08:28:31.907000');
INSERT INTO "trials" VALUES('4d25269a9884',1,'complete','{"keep": 1}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.2, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e2ab26add4a1b34e60d3046895377efcdbbfb6f161ecc4e7bca292677a3ce909',NULL,0.25,'2026-11-22 08:28:31.908000');
INSERT INTO "trials" VALUES('4d25269a9884',2,'complete','{"keep": 2}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.3, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','12244a6a34b148778081b4bba006b747d86b16e9b4961d1c098fcdb1d4b6d134',NULL,0.2,'2026-11-22 08:28:31.910000');
INSERT INTO "trials" VALUES('4d25269a9884',3,'failed','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'größer als ''a\udcff\x00b''',0.5,'2026-11-22 08:28:31.912000');
INSERT INTO "trials" VALUES('4d25269a9884',4,'complete','{"keep": 4}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.5, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','7d5c51f0df032b1e1de9b02962055cc53790a7f2730201de9873a1a9e78d7549',NULL,1.42857142857142849212e-01,'2026-11-22 08:28:31.924000');
INSERT INTO "trials" VALUES('4d25269a9884',5,'complete','{"keep": 5}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.6, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','355f50c44a7cfed648fdd0d4a59cde54a218dd453159dada8664c938d528cd23',NULL,0.125,'2026-11-22 08:28:31.927000');
INSERT INTO "trials" VALUES('4d25269a9884',6,'complete','{"keep": 6}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.7, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','e0129618aad9febffec1e1f19a95b461283fddb1e9bd07eac2bb6a1e989fba1e',NULL,1.11111111111111104943e-01,'2026-11-22 08:28:31.929000');
INSERT INTO "trials" VALUES('4d25269a9884',7,'infeasible','{"keep": {"$float": "inf"}, "group": [{"$float": "nan"}, null]}','tpe',NULL,NULL,'rank 9 of 8',0.5,'2026-11-22 08:28:31.931000');
INSERT INTO "trials" VALUES('f778c1f2e9db',0,'complete','{"keep": 0}','warm','{"schema_version": "autokv/v1", "pipeline": {"eviction": {"keep_ratio": 0.1, "sink_tokens": 4, "recent_tokens": 64, "layer_budget": "uniform", "head_budget": "uniform", "method": "knorm", "options": {}}, "quantization": {"method": "none"}, "low_rank": {"method": "none"}}}','772e64966fb7da9c2a571ab753259459946eae29505688d47739a7684b2f995e',NULL,3.33333333333333314829e-01,'2026-11-22 08:28:31.946000');
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX ix_trials_digest ON trials (digest);
CREATE INDEX ix_configurations_digest ON configurations (digest);
CREATE INDEX ix_measurements_job_id_trial ON measurements (job_id, trial);
CREATE INDEX ix_kernel_times_key ON kernel_times ("key");
COMMIT;
