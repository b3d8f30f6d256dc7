<?php
// Fetch the calls of a window with their logs as XML. Arguments: address, user, password, start, end. Prints what
// SimpleXML found, every value as a string.

[, $address, $user, $password, $start, $end] = $argv;

$curl = curl_init("$address/api/all_logs/$start/$end");
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
curl_setopt($curl, CURLOPT_HTTPHEADER, ['Accept: application/xml']);
curl_setopt($curl, CURLOPT_USERPWD, "$user:$password");
$body = curl_exec($curl);
$status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
curl_close($curl);

$xml = simplexml_load_string($body);
if ($xml === false) {
    fwrite(STDERR, "$status no XML: $body\n");
    exit(1);
}
if ($status !== 200) {
    echo json_encode(['status' => $status, 'error' => (string) $xml->error]);
    exit;
}

$calls = [];
foreach ($xml->calls->item as $call) {
    $events = [];
    foreach ($call->detail->item as $entry) {
        $data = [];
        foreach ($entry->event->data->children() as $name => $value) {
            $data[$name] = (string) $value;
        }
        $events[] = [
            'line' => (string) $entry->event->line,
            'data' => (object) $data,
            'class' => (string) $entry->class,
            'timestamp' => (string) $entry->timestamp,
        ];
    }
    $calls[] = [
        'dest' => (string) $call->dest,
        'src' => (string) $call->src,
        'start' => (string) $call->start,
        'end' => (string) $call->end,
        'session_id' => (string) $call->session_id,
        'type' => (string) $call->type,
        'log' => (string) $call->log,
        'detail' => $events,
    ];
}

echo json_encode(['status' => $status, 'total_calls' => (string) $xml->total_calls, 'calls' => $calls]);
