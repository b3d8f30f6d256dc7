<?php
// Fetch the log of one call by its session id. Arguments: address, user, password, session id. Prints the HTTP status
// and what json_decode made of the body, errors too.

[, $address, $user, $password, $session] = $argv;

$curl = curl_init();
curl_setopt_array($curl, [
    CURLOPT_URL => $address . '/api/call/' . urlencode($session),
    CURLOPT_USERPWD => "$user:$password",
    CURLOPT_HTTPHEADER => ['Accept: application/json'],
    CURLOPT_RETURNTRANSFER => true,
]);
$body = curl_exec($curl);
$status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
curl_close($curl);

echo json_encode(['status' => $status, 'body' => json_decode($body, false, 512, JSON_THROW_ON_ERROR)]);
