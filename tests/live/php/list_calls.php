<?php
// List the calls of a window page by page, as a reporting script does. Arguments: address, user, password, start, end,
// and the number of calls to ask for at a time. Prints every call that it met and the total that the server names.

[, $address, $user, $password, $start, $end, $limit] = $argv;

$found = [];
$offset = 0;
do {
    $curl = curl_init();
    curl_setopt($curl, CURLOPT_URL, "$address/api/calls/$start/$end?limit=$limit&offset=$offset");
    curl_setopt($curl, CURLOPT_HTTPHEADER, ['Accept: application/json']);
    curl_setopt($curl, CURLOPT_USERPWD, "$user:$password");
    curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
    $body = curl_exec($curl);
    $status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
    curl_close($curl);
    if ($status !== 200) {
        fwrite(STDERR, "$status $body\n");
        exit(1);
    }
    $answer = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    foreach ($answer['calls'] as $call) {
        $found[] = $call;
    }
    $offset += $limit;
} while ($offset < $answer['total_calls']);

echo json_encode(['calls' => $found, 'total_calls' => $answer['total_calls']]);
