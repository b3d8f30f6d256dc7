<?php
// Fetch the calls of a window with their logs, and sum up what happened in each. Arguments: address, user, password,
// start, end. Prints for each call its session, its length and the lines of its log.

[, $address, $user, $password, $start, $end] = $argv;

$curl = curl_init("$address/api/all_logs/$start/$end?limit=10000&offset=0");
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
curl_setopt($curl, CURLOPT_HTTPHEADER, ['Accept: application/json']);
curl_setopt($curl, CURLOPT_USERPWD, $user . ':' . $password);
$body = curl_exec($curl);
$status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
$type = curl_getinfo($curl, CURLINFO_CONTENT_TYPE);
curl_close($curl);
if ($status !== 200) {
    fwrite(STDERR, "$status $body\n");
    exit(1);
}

$answer = json_decode($body);
$report = [];
foreach ($answer->calls as $call) {
    $lines = [];
    if ($call->detail !== false) {
        foreach ($call->detail as $entry) {
            $lines[] = gmdate('H:i:s', $entry->timestamp) . " {$entry->class} {$entry->event->data->module_type}: {$entry->event->line}";
        }
    }
    $report[] = [
        'session' => $call->session_id,
        'seconds' => $call->end - $call->start,
        'log' => $call->log,
        'lines' => $lines,
    ];
}

echo json_encode(['type' => $type, 'total' => $answer->total_calls, 'report' => $report]);
