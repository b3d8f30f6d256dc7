<?php
// Export every log of a window: list page by page, then fetch each log by its id, all as XML. Arguments: address, login,
// password, start, end, and the number of logs to ask for at a time. Prints for each call its session and its log, and
// checks that PHP would write the same list in JSON as the server does.

[, $address, $login, $password, $start, $end, $limit] = $argv;

function get(string $url, string $accept): string
{
    global $login, $password;
    $curl = curl_init($url);
    curl_setopt($curl, CURLOPT_HTTPHEADER, ["Accept: $accept"]);
    curl_setopt($curl, CURLOPT_USERPWD, "$login:$password");
    curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
    $body = curl_exec($curl);
    $status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
    curl_close($curl);
    if ($status !== 200) {
        fwrite(STDERR, "$status $body\n");
        exit(1);
    }
    return $body;
}

$found = [];
$offset = 0;
do {
    $list = simplexml_load_string(get("$address/ws/calls/logs/$start/$end?limit=$limit&offset=$offset", 'application/xml'));
    if ($list->getName() !== 'logs' || (string) $list->status !== 'success') {
        fwrite(STDERR, "no list of logs\n");
        exit(1);
    }
    foreach ($list->result->logs->log as $call) {
        $log = simplexml_load_string(get("$address/ws/calls/log/$call->log_id", 'application/xml'));
        $found[] = [
            'session' => (string) $call->session_id,
            'src' => (string) $log->result->src,
            'timestamp' => (string) $log->result->timestamp,
            'lines' => explode("\n", (string) $log->result->log),
        ];
    }
    $offset += $limit;
} while ($offset < (int) $list->result->total_logs);

$json = get("$address/ws/calls/sessions/$start/$end", 'application/json');
$same = json_encode(json_decode($json), JSON_UNESCAPED_UNICODE) === $json;

echo json_encode(['found' => $found, 'total' => (string) $list->result->total_logs, 'same' => $same]);
