-- How the tables are spread over the servers of Citus: each server has the small ones, and what belongs to an account lies
-- on one server, so that all that is asked of it is answered there.

SELECT create_reference_table('accounts');
SELECT create_reference_table('meta');
SELECT create_reference_table('credentials');
SELECT create_reference_table('sign_ins');
SELECT create_reference_table('dictionaries');
SELECT create_reference_table('mirrors');
SELECT create_reference_table('mirror_losses');
SELECT create_distributed_table('calls', 'account_id');
SELECT create_distributed_table('origins', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('call_counts', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('end_counts', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('totals', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('counted_numbers', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('hour_peaks', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('logs', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('waiting_events', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('fragments', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('call_errors', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('log_words', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('imports', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('followed_files', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('arrivals', 'account_id', colocate_with => 'calls');
SELECT create_distributed_table('quarantine', 'account_id', colocate_with => 'calls');
