// Asks a server for its own descriptors, by the standard reflection service.
'use strict';

const grpc = require('@grpc/grpc-js');
const protobuf = require('protobufjs');
const protoLoader = require('@grpc/proto-loader');

const REFLECTION = `
syntax = "proto3";
package grpc.reflection.v1alpha;
service ServerReflection {
  rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
}
message ServerReflectionRequest {
  string host = 1;
  oneof message_request {
    string file_containing_symbol = 4;
    string list_services = 7;
  }
}
message ServerReflectionResponse {
  oneof message_response {
    FileDescriptorResponse file_descriptor_response = 4;
    ListServiceResponse list_services_response = 6;
  }
}
message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message ServiceResponse { string name = 1; }
`;

// The FileDescriptorSet, as an object, of every service of `pkg` with all that they import.
async function descriptorsOf(address, pkg) {
  const root = protobuf.parse(REFLECTION, { keepCase: true }).root;
  const { grpc: loaded } = grpc.loadPackageDefinition(protoLoader.fromJSON(root.toJSON({ keepComments: false }), { keepCase: true }));
  const client = new loaded.reflection.v1alpha.ServerReflection(address, grpc.credentials.createInsecure());
  const { service } = (await ask(client, { list_services: '' })).list_services_response;
  const files = new Map();
  for (const { name } of service.filter((one) => one.name.startsWith(`${pkg}.`))) {
    const answer = await ask(client, { file_containing_symbol: name });
    for (const bytes of answer.file_descriptor_response.file_descriptor_proto) {
      const file = FileDescriptorProto().decode(bytes);
      files.set(file.name, file);
    }
  }
  client.close();
  return FileDescriptorSet().toObject({ file: [...files.values()] }, { bytes: Buffer });
}

const FileDescriptorProto = () => require('protobufjs/ext/descriptor').FileDescriptorProto;
const FileDescriptorSet = () => require('protobufjs/ext/descriptor').FileDescriptorSet;

function ask(client, request) {
  return new Promise((resolve, reject) => {
    const stream = client.ServerReflectionInfo();
    stream.on('data', (answer) => { stream.end(); resolve(answer); });
    stream.on('error', reject);
    stream.write(request);
  });
}

module.exports = { descriptorsOf };
