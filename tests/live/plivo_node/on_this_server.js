// plivo's package has no setting for the host of its voice API, so its HTTP client's requests are redirected instead.
// Arguments: the address that stands in for https://api.plivo.com and its fallbacks.
'use strict';

const axios = require('axios');

module.exports = function (address) {
  const redirected = (config) => {
    config.url = config.url.replace(/^https:\/\/[a-z0-9.-]*plivo\.com/, address);
    return config;
  };
  const create = axios.create;
  axios.create = (...options) => {
    const made = create.apply(axios, options);
    made.interceptors.request.use(redirected);
    return made;
  };
  axios.interceptors.request.use(redirected);
};
