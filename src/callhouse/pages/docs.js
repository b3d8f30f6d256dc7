"use strict";

// Swagger UI takes every media type with "json" in its name for JSON, and would quote lines of it as one string.
function showLines() {
  const sample = this.fn.getSampleSchema;
  this.fn.getSampleSchema = (schema, mediaType, ...rest) =>
    sample(schema, mediaType === "application/x-ndjson" ? "text/plain" : mediaType, ...rest);
}

window.ui = SwaggerUIBundle({
  url: document.getElementById("reference").dataset.document,
  dom_id: "#reference",
  deepLinking: true,
  defaultModelExpandDepth: 3,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  showCommonExtensions: true,
  plugins: [{ afterLoad: showLines }],
  // Swagger's validator is somebody else's server.
  validatorUrl: null,
});
