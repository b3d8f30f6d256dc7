<?php
// Fetch one of the DEV lists with php-curl, as the published sample does, and print the HTTP status and what json_decode
// made of the body. Arguments: address, login, password, service, start, end, parameters.

[, $address, $login, $password, $service, $start, $end, $parameters] = $argv;

$curl = curl_init();
curl_setopt($curl, CURLOPT_URL, "$address/ws/calls/$service/$start/$end?$parameters");
curl_setopt($curl, CURLOPT_HTTPGET, true);
curl_setopt($curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
curl_setopt($curl, CURLOPT_USERPWD, "$login:$password");
// The sample sends the header of a form with its GET.
curl_setopt($curl, CURLOPT_HTTPHEADER, ['Content-Type: application/x-www-form-urlencoded', 'Accept: application/json']);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
$body = curl_exec($curl);
$status = curl_getinfo($curl, CURLINFO_HTTP_CODE);
curl_close($curl);

echo json_encode(['status' => $status, 'body' => json_decode($body, true, 512, JSON_THROW_ON_ERROR)]);
